/** What a user of the package sees. */

export { attach, type Attached, type AttachOptions } from "./attach.ts";
export type { TokenOptions } from "./keys.ts";
export { TidingsError } from "./requests.ts";
export {
  Tidings,
  type BatchEvent,
  type BatchResult,
  type Member,
  type NodeOfCluster,
  type Page,
  type Published,
  type PublishOptions,
  type Session,
  type StoredEvent,
  type TidingsOptions,
} from "./tidings.ts";
export {
  Webhooks,
  type About,
  type ConnectAnswer,
  type EventAnswer,
  type EventCall,
  type WebhookAnswer,
  type WebhookHandlers,
  type WebhookOptions,
} from "./webhooks.ts";
