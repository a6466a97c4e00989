/** Images as bytes: what they are, and how they are made to fit into one binary frame. */

const SIGNATURES: readonly (readonly [type: string, bytes: readonly number[], offset: number])[] = [
  ["image/png", [0x89, 0x50, 0x4e, 0x47], 0],
  ["image/jpeg", [0xff, 0xd8, 0xff], 0],
  ["image/gif", [0x47, 0x49, 0x46, 0x38], 0],
  ["image/webp", [0x57, 0x45, 0x42, 0x50], 8],
];

/** The type that the bytes themselves tell; undefined for what is no image that a page shows. */
export function imageType(bytes: Uint8Array): string | undefined {
  return SIGNATURES.find(([, signature, offset]) => signature.every((byte, index) => bytes[offset + index] === byte))?.[0];
}

/** A file's bytes as they are, if they fit into `bytesMax`; else a smaller picture of the same. Throws words for people. */
export async function imageBytes(file: Blob, bytesMax: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (!imageType(bytes)) throw new Error("Only PNG, JPEG, GIF and WebP images can be sent.");
  if (bytes.length <= bytesMax) return bytes;
  const picture = await createImageBitmap(file);
  for (let scale = Math.min(1, 1600 / Math.max(picture.width, picture.height)); scale > 0.02; scale *= 0.7) {
    const canvas = new OffscreenCanvas(Math.ceil(picture.width * scale), Math.ceil(picture.height * scale));
    canvas.getContext("2d")?.drawImage(picture, 0, 0, canvas.width, canvas.height);
    const smaller = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.8 });
    if (smaller.size <= bytesMax) return new Uint8Array(await smaller.arrayBuffer());
  }
  throw new Error("This image can't be made small enough to be sent.");
}

/** A URL under which a page shows the bytes. */
export function imageUrl(bytes: Uint8Array): string {
  const type = imageType(bytes) ?? "application/octet-stream";
  return URL.createObjectURL(new Blob([bytes as Uint8Array<ArrayBuffer>], { type }));
}
