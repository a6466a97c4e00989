/** What this machine does, as samples. */

import { cpus, freemem, loadavg, totalmem } from "node:os";

/** The board that everyone watches who signs up, and what it shows. */
export const BOARD = "machine";
export const EVENT = "sample";

/** One value of one series. `at` is in seconds. */
export interface Sample {
  readonly series: string;
  readonly value: number;
  readonly unit: "ratio" | "count";
  readonly at: number;
}

export class Machine {
  #before = times();

  /** Everything as of now; `cpu` since the last call. */
  samples(): Sample[] {
    const now = times();
    const total = now.total - this.#before.total;
    const cpu = total === 0 ? 0 : 1 - (now.idle - this.#before.idle) / total;
    this.#before = now;
    const at = Date.now() / 1000;
    return [
      { series: "cpu", value: cpu, unit: "ratio", at },
      { series: "memory", value: 1 - freemem() / totalmem(), unit: "ratio", at },
      { series: "load", value: loadavg()[0]!, unit: "count", at },
    ];
  }
}

/** What all cores have spent since the machine was started. */
function times(): { idle: number; total: number } {
  let [idle, total] = [0, 0];
  for (const { times } of cpus()) {
    idle += times.idle;
    total += Object.values(times).reduce((sum, time) => sum + time, 0);
  }
  return { idle, total };
}
