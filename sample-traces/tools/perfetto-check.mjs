// Loads an exported trace into Perfetto's own SQL engine and compares what it says with `llmtrace`.
// Usage: perfetto-check.mjs ENGINE_FOLDER LLMTRACE TRACE PERFETTO_FILE
//
// The engine is the WebAssembly of Perfetto's web interface, which is made for a web worker: it gets
// what it uses of one, and a port that we answer. What goes through the port is Perfetto's
// `TraceProcessorRpcStream`, of which this writes and reads the few fields that it needs.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import vm from "node:vm";

const [folder, llmtrace, trace, exported] = process.argv.slice(2);

// Messages of protobuf: a field is its number and wire type, then the value.
const varint = (value) => {
    const bytes = [];
    for (let rest = BigInt(value); ; ) {
        const low = Number(rest & 0x7fn);
        rest >>= 7n;
        bytes.push(rest ? low | 0x80 : low);
        if (!rest) return Buffer.from(bytes);
    }
};
const number = (field, value) => Buffer.concat([varint(field * 8), varint(value)]);
const bytes = (field, value) => Buffer.concat([varint(field * 8 + 2), varint(value.length), value]);

class Reader {
    constructor(buffer) {
        this.buffer = buffer;
        this.at = 0;
    }
    get more() {
        return this.at < this.buffer.length;
    }
    varint() {
        let value = 0n;
        for (let shift = 0n; ; shift += 7n) {
            const byte = this.buffer[this.at++];
            value |= BigInt(byte & 0x7f) << shift;
            if (byte < 0x80) return BigInt.asIntN(64, value);
        }
    }
    slice(length) {
        this.at += length;
        return this.buffer.subarray(this.at - length, this.at);
    }
    *fields() {
        while (this.more) {
            const tag = Number(this.varint());
            const wire = tag & 7;
            if (wire === 0) yield [tag >> 3, this.varint()];
            else if (wire === 1) yield [tag >> 3, this.slice(8)];
            else if (wire === 2) yield [tag >> 3, this.slice(Number(this.varint()))];
            else throw new Error(`wire type ${wire} in an answer`);
        }
    }
}

class Engine {
    static APPEND = 1;
    static FINALIZE = 2;
    static QUERY = 3;

    constructor() {
        this.answers = [];
        this.sequence = 0;
        this.port = { postMessage: (answer) => this.answers.push(Buffer.from(answer)) };
    }

    async start() {
        const worker = { location: { href: "" } };
        const quiet = { log() {}, warn() {}, error() {} };
        const read = (name) => readFileSync(join(folder, basename(name)));
        const world = vm.createContext({
            self: worker, console: quiet, location: worker.location, crypto, performance, setTimeout,
            clearTimeout, TextDecoder, TextEncoder, importScripts() {}, WorkerGlobalScope: class {},
            XMLHttpRequest: class {
                open(_, name) {
                    this.name = name;
                }
                send() {
                    const file = read(this.name);
                    this.status = 200;
                    this.response = file.buffer.slice(file.byteOffset, file.byteOffset + file.length);
                }
            },
        });
        vm.runInContext(read("engine_bundle.js").toString(), world);
        // What the engine does on its start is queued as promises.
        await new Promise((resolve) => setTimeout(resolve));
        this.Bytes = vm.runInContext("Uint8Array", world);
        worker.onmessage({ data: this.port });
    }

    send(method, ...fields) {
        this.answers = [];
        const request = Buffer.concat([number(1, this.sequence++), number(2, method), ...fields]);
        this.port.onmessage({ data: new this.Bytes(bytes(1, request)) });
        return Buffer.concat(this.answers);
    }

    load(file) {
        for (let at = 0; at < file.length; at += 1 << 24) {
            this.send(Engine.APPEND, bytes(101, file.subarray(at, at + (1 << 24))));
        }
        this.send(Engine.FINALIZE);
    }

    // Rows of a query, as lists.
    query(sql) {
        const answer = this.send(Engine.QUERY, bytes(103, bytes(1, Buffer.from(sql))));
        const cells = [];
        let columns = 0;
        for (const [, message] of new Reader(answer).fields()) {
            for (const [field, result] of new Reader(message).fields()) {
                if (field === 5) throw new Error(`${sql}: ${result}`);
                if (field !== 203) continue;
                for (const [field, value] of new Reader(result).fields()) {
                    if (field === 1) columns += 1;
                    if (field === 2 && value.length) throw new Error(`${sql}: ${value}`);
                    if (field === 3) cells.push(...batch(value));
                }
            }
        }
        const rows = [];
        while (cells.length) rows.push(cells.splice(0, columns));
        return rows;
    }
}

// Cells of a batch: first their kinds, then the values of each kind.
function batch(message) {
    const kinds = [];
    const numbers = [];
    const floats = [];
    let texts = [];
    for (const [field, value] of new Reader(message).fields()) {
        const list = new Reader(value);
        if (field === 1) while (list.more) kinds.push(Number(list.varint()));
        if (field === 2) while (list.more) numbers.push(Number(list.varint()));
        if (field === 3) while (list.more) floats.push(list.slice(8).readDoubleLE());
        if (field === 5) texts = value.toString().split("\0");
    }
    const [NULL, NUMBER, FLOAT, TEXT] = [1, 2, 3, 4];
    const lists = { [NUMBER]: numbers, [FLOAT]: floats, [TEXT]: texts };
    return kinds.map((kind) => (kind === NULL ? null : lists[kind].shift()));
}

const ask = (...args) => JSON.parse(execFileSync(llmtrace, [...args, "--json"]));
// JSON has exact nanoseconds, as milliseconds.
const nanos = (millis) => Math.round(millis * 1e6);
let checks = 0;
function same(what, found, wanted) {
    checks += 1;
    const [a, b] = [JSON.stringify(found), JSON.stringify(wanted)];
    if (a !== b) {
        console.error(`perfetto-check: ${what}: Perfetto says ${a}, llmtrace says ${b}`);
        process.exit(1);
    }
}
const sorted = (rows) => rows.sort((a, b) => (a[0] < b[0] ? -1 : 1));

const engine = new Engine();
await engine.start();
engine.load(readFileSync(exported));

const info = ask("info", trace);
const rows = Object.fromEntries(info.tables.map((table) => [table.table, table.rows]));
const categories = [
    ["call", rows["calls"]],
    ["copy", rows["copies"]],
    ["decode", rows["decodes"]],
    ["fault", rows["page faults"]],
    ["graph", rows["graph spans"]],
    ["op", info.op_spans],
    ["read", rows["block reads"]],
    ["scheduler", rows["scheduler runs"]],
    ["split", rows["splits"]],
    ["state", rows["thread states"]],
    ["ubatch", rows["ubatches"]],
    ["wait", rows["waits for backends"]],
];
same(
    "rows",
    sorted(engine.query("SELECT category, count(*) FROM slice GROUP BY 1")),
    categories.filter(([, count]) => count),
);
const threads = ask("stats", trace, "--by", "thread");
const tracks = `SELECT substr(track.name, 8), count(*), sum(dur) FROM slice JOIN track ON track_id = track.id
    WHERE category = 'op' GROUP BY 1`;
const lanes = threads.rows.map((row) => [row.key, row.count, nanos(row.time_ms)]);
same("spans and time of threads", sorted(engine.query(tracks)), sorted(lanes));
const argument = (name) => `extract_arg(arg_set_id, 'debug.${name}')`;
const ops = ask("stats", trace, "--by", "op");
const byOp = `SELECT ${argument("op")}, sum(dur), sum(${argument("wait_ns")}) FROM slice
    WHERE category = 'op' GROUP BY 1`;
const operators = ops.rows.map((row) => [row.key, nanos(row.time_ms), nanos(row.wait_ms)]);
same("time and wait of operators", sorted(engine.query(byOp)), sorted(operators));
same("nested op spans", engine.query("SELECT count(*) FROM slice WHERE category = 'op' AND depth > 0"), [[0]]);
const states = ask("stats", trace, "--by", "state").threads;
const names = {
    unknown: "unknown_ms",
    "on CPU": "on_cpu_ms",
    preempted: "preempted_ms",
    "woken, not on CPU yet": "woken_ms",
    sleeping: "sleeping_ms",
    "sleeping, uninterruptible": "uninterruptible_ms",
    "sleeping in a page fault": "faulting_ms",
};
const inStates = Object.entries(names)
    .map(([name, field]) => [name, states.reduce((sum, thread) => sum + nanos(thread[field]), 0)])
    .filter(([, time]) => time);
const byState = "SELECT name, sum(dur) AS time FROM slice WHERE category = 'state' GROUP BY 1 HAVING time > 0";
same("time in states", sorted(engine.query(byState)), sorted(inStates));
const faults = ask("stats", trace, "--by", "fault");
const sums = (category, ...names) => {
    const each = names.map((name) => `ifnull(sum(${argument(name)}), 0)`).join(", ");
    return engine.query(`SELECT ${each} FROM slice WHERE category = '${category}'`);
};
same("page faults", sums("fault", "count", "major"), [[faults.count, faults.major]]);
same("bytes read", sums("read", "bytes"), [[faults.read_bytes]]);
(ops.counters ?? []).forEach((name, number) => {
    const wanted = ops.rows.reduce((sum, row) => sum + row.counters[number].sum, 0);
    same(name, sums("op", name), [[wanted]]);
});
const counters = `SELECT count(*), min(value) > 0 FROM counter JOIN track ON track_id = track.id
    WHERE track.name = 'tokens/s'`;
same("values of tokens/s", engine.query(counters), [[rows["ubatches"], 1]]);
const arrows = `SELECT i.category, count(*) FROM flow JOIN slice o ON slice_out = o.id
    JOIN slice i ON slice_in = i.id GROUP BY 1`;
same("arrows to graph runs", engine.query(arrows), [["graph", rows["graph spans"]]]);
same("process", engine.query("SELECT name, pid FROM process WHERE pid > 0"), [[info.target.exe, info.target.pid]]);
const errors = "SELECT name, value FROM stats WHERE severity IN ('error', 'data_loss') AND value > 0";
same("errors of loading", engine.query(errors), []);
console.log(`perfetto-check: ${checks} comparisons of ${info.op_spans} op spans, all the same`);
