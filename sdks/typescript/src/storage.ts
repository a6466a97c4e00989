/** What outlives a reload of the page: one text for each thing that is kept. */

/** Where a text is kept; `key` has to name the user, whose it is: `{ storage: sessionStorage, key: "outbox:" + user }`. */
export interface StorageSlot {
  /** The part of the standard's Storage that is used. */
  readonly storage: {
    getItem(key: string): string | null;
    setItem(key: string, value: string): void;
    removeItem(key: string): void;
  };
  readonly key: string;
}

/** What is kept; nothing, if a storage is closed to us. */
export function load(slot: StorageSlot | undefined): string {
  try {
    return slot?.storage.getItem(slot.key) ?? "";
  } catch {
    return "";
  }
}

/** Keeps a text, or no longer anything. A storage that is full or forbidden keeps nothing, as if there was none. */
export function save(slot: StorageSlot, text: string): void {
  try {
    if (text) slot.storage.setItem(slot.key, text);
    else slot.storage.removeItem(slot.key);
  } catch {
    // A reload then forgets what was kept here.
  }
}
