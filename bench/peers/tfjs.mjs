// TensorFlow.js on WebAssembly: node tfjs.mjs NODE_MODULES SETTING. It speaks as __main__.py does.
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { createRequire } from 'node:module';

const say = (content) => fs.writeSync(1, JSON.stringify(content) + '\n');
const reason = (error) => `${error.name}: ${error.message.split('\n')[0]}`.slice(0, 200);
const [modules, setting] = [path.resolve(process.argv[2]), JSON.parse(process.argv[3])];
console.log = console.info = console.warn = console.error;   // stdout is for answers alone

function images(tf, part) {
  const bytes = fs.readFileSync(path.join(setting.data, `x_${part}`));
  const labels = fs.readFileSync(path.join(setting.data, `y_${part}`));
  return [tf.tensor(Float32Array.from(bytes, (v) => v / 255), [labels.length, 28, 28]),
    tf.tensor(Float32Array.from(labels), [labels.length, 1])];
}

function network(tf) {
  const layers = [tf.layers.flatten({ inputShape: [28, 28] })];
  for (const units of setting.hidden) {
    layers.push(tf.layers.dense({ units, activation: 'relu' }));
    if (setting.dropout) layers.push(tf.layers.dropout({ rate: setting.dropout }));
  }
  layers.push(tf.layers.dense({ units: 10, activation: 'softmax' }));
  const model = tf.sequential({ layers });
  model.compile({ optimizer: tf.train.momentum(setting.lr, setting.momentum, true),
    loss: 'sparseCategoricalCrossentropy', metrics: ['accuracy'] });
  return model;
}

async function main() {
  const require = createRequire(path.join(modules, 'none.js'));
  const tf = require('@tensorflow/tfjs'), wasm = require('@tensorflow/tfjs-backend-wasm');
  wasm.setWasmPaths(path.join(modules, '@tensorflow/tfjs-backend-wasm/dist') + path.sep);
  if (!await tf.setBackend('wasm')) throw new Error('the wasm backend does not start');
  const flags = await Promise.all(
    ['WASM_HAS_SIMD_SUPPORT', 'WASM_HAS_MULTITHREAD_SUPPORT'].map((f) => tf.env().getAsync(f)));
  const [x, y] = images(tf, 'train'), [xTest, yTest] = images(tf, 'test'), model = network(tf);
  const work = {
    async epoch() {
      const start = performance.now();
      // yielding to a browser's event loop would only cost time
      const { history } = await model.fit(x, y, { batchSize: setting.batch, epochs: 1,
        shuffle: true, verbose: 0, yieldEvery: 'never' });
      return { seconds: (performance.now() - start) / 1e3, loss: history.loss[0],
        train_accuracy: history.acc[0] };
    },
    accuracy: () => ({ accuracy: model.evaluate(xTest, yTest)[1].dataSync()[0] }),
  };
  say({ variants: ['fit'], versions: `tfjs ${tf.version.tfjs}, node ${process.versions.node}`,
    note: `no decay; SIMD ${flags[0] ? 'on' : 'off'}, ${flags[1] ? 'threads'
      : 'one thread: it has no threads on Node'}` });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    try {
      say(await work[Object.keys(JSON.parse(line))[0]]());
    } catch (error) {
      say({ error: reason(error) });
    }
  }
}

main().catch((error) => say({ missing: reason(error) }));
