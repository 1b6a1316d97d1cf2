// Makes golden.json, which test_tfjs.py compares with. In an empty folder:
//   npm install @tensorflow/tfjs@4.22.0 && cp .../golden.mjs . && node golden.mjs > golden.json
import * as tf from '@tensorflow/tfjs';

await tf.setBackend('cpu');
const steps = 200, stored = [1, 2, 10, 200];
const start = [1, -2, 0.5, 3, -0.25];
// Powers of two, and slopes in quarters that never settle: the gradient of
// sum(curvature * p^2 / 2 + slope * p) is rounded once, whichever way it is computed. With these lr
// every case contracts, so roundings fade.
const curvature = [0.5, 1, 2, 4, 8];
const slope = (step) => start.map((_, i) => ((7 * step + 3 * i) % 11 - 5) / 4);
const lrAt = (step) => 0.003 * (1 + step % 5);

const cases = [{ momentum: 0, nesterov: false, make: () => tf.train.sgd(lrAt(0)) }];
for (const momentum of [0.5, 0.9, 0.99])
  for (const nesterov of [false, true])
    cases.push({ momentum, nesterov, make: () => tf.train.momentum(lrAt(0), momentum, nesterov) });

const results = cases.map(({ momentum, nesterov, make }) => {
  const p = tf.variable(tf.tensor1d(start));
  const optimizer = make();
  const params = {};
  for (let step = 0; step < steps; step++) {
    optimizer.setLearningRate(lrAt(step));
    optimizer.minimize(() => tf.tidy(() => tf.add(
      tf.sum(tf.mul(tf.tensor1d(curvature), tf.mul(0.5, tf.square(p)))),
      tf.sum(tf.mul(tf.tensor1d(slope(step)), p)))));
    if (stored.includes(step + 1)) params[step + 1] = Array.from(p.dataSync());
  }
  return { momentum, nesterov, params };
});
console.log(JSON.stringify(
  { tfjs: tf.version.tfjs, start, curvature, lr: Array.from({ length: steps }, (_, i) => lrAt(i)),
    slopes: Array.from({ length: steps }, (_, i) => slope(i)), cases: results })
  .replaceAll('},{', '},\n{').replaceAll('],[', '],\n['));
