/** Whether numbers are spread evenly: the test of Kolmogorov and Smirnov. */

/** The greatest distance between how the draws are spread and how a uniform draw from [low, high] would be, 0 to 1. */
export function distanceFromUniform(draws: readonly number[], low: number, high: number): number {
  const sorted = [...draws].sort((a, b) => a - b);
  const distances = sorted.map((draw, index) => {
    const expected = Math.min(Math.max((draw - low) / (high - low), 0), 1);
    return Math.max(expected - index / sorted.length, (index + 1) / sorted.length - expected);
  });
  return Math.max(...distances);
}

/** Of so many truly uniform draws, one set in a hundred is farther away. */
export function distanceMax(draws: number): number {
  return 1.628 / Math.sqrt(draws);
}
