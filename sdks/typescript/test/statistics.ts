/** Whether numbers are spread evenly: the test of Kolmogorov and Smirnov. */
import assert from "node:assert/strict";

/** Asserts that the draws are spread as uniform draws from [low, high] are, and says how far they are from it. */
export function assertUniform(draws: readonly number[], low: number, high: number): string {
  const sorted = [...draws].sort((a, b) => a - b);
  const distances = sorted.map((draw, index) => {
    const expected = Math.min(Math.max((draw - low) / (high - low), 0), 1);
    return Math.max(expected - index / sorted.length, (index + 1) / sorted.length - expected);
  });
  // Of a hundred sets of truly uniform draws one is farther away.
  const [distance, distanceMax] = [Math.max(...distances), 1.628 / Math.sqrt(draws.length)];
  const told = `a distance of ${distance.toFixed(4)}, at most ${distanceMax.toFixed(4)}`;
  assert.ok(distance < distanceMax, told);
  return told;
}
