// Opens a trace in the Perfetto UI, in a headless Chromium, and prints after how many seconds its
// tracks were there and it had stopped loading. The start of the browser and of the UI do not count.
// Usage: open.mjs FOLDER_OF_THE_UI CHROMIUM TRACE [PICTURE]
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import { chromium } from "playwright-core";

const [root, executablePath, trace, picture] = process.argv.slice(2);
const TYPES = { ".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".wasm": "application/wasm" };
const PATIENCE_MILLIS = 600_000;

function answer(request, response) {
    const asked = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    const file = asked === "/trace" ? trace : path.join(root, asked.endsWith("/") ? `${asked}index.html` : asked);
    if (!fs.statSync(file, { throwIfNoEntry: false })?.isFile()) {
        response.writeHead(404).end();
        return;
    }
    const type = TYPES[path.extname(file)] ?? "application/octet-stream";
    response.writeHead(200, { "content-type": type, "content-length": fs.statSync(file).size });
    fs.createReadStream(file).pipe(response);
}

const server = http.createServer(answer);
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
// A sandbox needs privileges of its own, and what is opened is ours. There may be no GPU.
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--enable-unsafe-swiftshader"] });
const page = await browser.newPage({ viewport: { width: 1600, height: 900 } });
page.setDefaultTimeout(PATIENCE_MILLIS);
await page.goto(`http://127.0.0.1:${server.address().port}/`);
await page.waitForSelector("input.trace_file", { state: "attached" });
await page.waitForFunction(() => !document.querySelector(".pf-linear-progress--anim"));

const begin = performance.now();
await page.evaluate(() => {
    location.hash = `#!/?url=${encodeURIComponent(`${location.origin}/trace`)}`;
});
await page.waitForSelector(".pf-track");
await page.waitForFunction(() => !document.querySelector(".pf-linear-progress--anim"));
console.log(((performance.now() - begin) / 1000).toFixed(2));
if (picture) await page.screenshot({ path: picture });
await browser.close();
server.close();
