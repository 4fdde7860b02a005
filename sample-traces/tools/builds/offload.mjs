// Generates with node-llama-cpp, with some layers on Vulkan's first device, greedily:
// offload.mjs MODEL THREADS TOKENS LAYERS (0, a number, or max)
// One line of JSON goes to stdout.
import {getLlama, LlamaCompletion} from "node-llama-cpp";

const [modelPath, threads, maxTokens, layers] = process.argv.slice(2);
// Fewer tokens than those from which on weights are copied to the device even without layers there.
const text = "The quick brown fox jumps over the lazy dog. ";

const llama = await getLlama({gpu: "vulkan", build: "never", progressLogs: false, maxThreads: Number(threads)});
const model = await llama.loadModel({modelPath, gpuLayers: layers === "max" ? "max" : Number(layers)});
const context = await model.createContext({contextSize: 512, threads: Number(threads), sequences: 1});
const completion = new LlamaCompletion({contextSequence: context.getSequence()});
// Libraries are loaded; time for a recorder to attach.
await new Promise((resolve) => setTimeout(resolve, 1000));
const begin = Date.now();
await completion.generateCompletion(text, {maxTokens: Number(maxTokens), temperature: 0, seed: 1});
const devices = await llama.getGpuDeviceNames();
console.log(JSON.stringify({wall_secs: (Date.now() - begin) / 1000, layers: model.gpuLayers, devices}));
process.exit(0);
