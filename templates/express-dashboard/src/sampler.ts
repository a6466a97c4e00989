/** Stores what the machine does and publishes it, once an interval. Of several applications one does that. */

import { TidingsError } from "tidings-server-sdk";

import { type RoomManager, roomOf } from "../ws/rooms.ts";
import type { Database } from "./database.ts";
import { BOARD, EVENT, Machine, type Sample } from "./machine.ts";

/** Samples that wait to be published at most: they are stored, and nobody misses the oldest of them. */
const WAITING_MAX = 300;

export class Sampler {
  readonly #database: Database;
  readonly #rooms: RoomManager;
  readonly #machine = new Machine();
  #timer: NodeJS.Timeout | undefined;
  #waiting: Sample[] = [];
  #isPublishing = false;

  constructor(database: Database, rooms: RoomManager) {
    this.#database = database;
    this.#rooms = rooms;
  }

  start(intervalMs: number): void {
    this.#timer = setInterval(() => {
      const samples = this.#machine.samples();
      this.#database.store(BOARD, samples);
      this.#waiting = [...this.#waiting, ...samples].slice(-WAITING_MAX);
      if (!this.#isPublishing) void this.#publish();
    }, intervalMs);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #publish(): Promise<void> {
    this.#isPublishing = true;
    try {
      for (let sample; (sample = this.#waiting.shift()); ) await this.#rooms.broadcast(roomOf(BOARD), EVENT, sample);
    } catch (error) {
      if (!(error instanceof TidingsError)) throw error;
      if (error.code !== "closed") console.warn(`a sample was not published: ${error.message}`);
    } finally {
      this.#isPublishing = false;
    }
  }
}
