// Generates with node-llama-cpp on the CPU, greedily: generate.mjs MODEL THREADS TOKENS
// One line of JSON per generation goes to stdout.
import {getLlama, LlamaCompletion} from "node-llama-cpp";

const [modelPath, threads, maxTokens] = process.argv.slice(2);
const text = "The quick brown fox jumps over the lazy dog. ".repeat(6);

const llama = await getLlama({gpu: false, build: "never", progressLogs: false, maxThreads: Number(threads)});
const model = await llama.loadModel({modelPath});
const context = await model.createContext({contextSize: 512, threads: Number(threads), sequences: 1});
const completion = new LlamaCompletion({contextSequence: context.getSequence()});
// Libraries are loaded; time for a recorder to attach.
await new Promise((resolve) => setTimeout(resolve, 1000));
const begin = Date.now();
await completion.generateCompletion(text, {maxTokens: Number(maxTokens), temperature: 0, seed: 1});
console.log(JSON.stringify({wall_secs: (Date.now() - begin) / 1000}));
process.exit(0);
