//! Which events an application has, and what becomes of data that is not as it was said to be.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod log_capture;

use bytes::Bytes;
use log_capture::TestHub;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidings::testing::{TestClient, TestFrame};
use tidings::{Access, BuildError, Context, Hub, HubBuilder, RoomRules};

/// A room in which everyone publishes, of events that are known.
fn builder() -> HubBuilder {
    Hub::builder()
        .rule(RoomRules::new("*").join(Access::Anyone).publish(Access::Anyone).ephemeral("typing.*"))
}

fn message() -> Value {
    json!({
        "type": "object",
        "required": ["content"],
        "properties": {"content": {"type": "string", "maxLength": 10}, "tags": {"items": {"type": "string"}}},
        "additionalProperties": false,
    })
}

async fn code_and_pointer(client: &mut TestClient, event: &str, data: Value) -> (String, Value) {
    let answer = client.request_in("a", event, data).await;
    (answer["data"]["code"].as_str().unwrap_or("ack").to_owned(), answer["data"]["pointer"].clone())
}

#[tokio::test(start_paused = true)]
async fn data_that_does_not_fit_its_schema_is_refused_with_the_place() {
    let hub = TestHub::start(builder().schema("message.send", &message())).unwrap();
    let (mut ann, mut bob) = (hub.connect("ann").await, hub.connect("bob").await);
    ann.join("a").await;
    bob.join("a").await;
    for (data, pointer) in [
        (json!(null), ""),
        (json!({}), ""),
        (json!({"content": 1}), "/content"),
        (json!({"content": "far too long"}), "/content"),
        (json!({"content": "", "tags": ["a", 2]}), "/tags/1"),
        (json!({"content": "", "more": 1}), ""),
    ] {
        let answer = code_and_pointer(&mut ann, "message.send", data.clone()).await;
        assert_eq!(answer, ("schema".to_owned(), json!(pointer)), "{data}");
    }
    // What fits goes to everyone as the bytes that it was.
    ann.send_text(r#"{"event":"message.send","room":"a","data":{ "content" : "Hell\u006f" }}"#).await;
    assert!(bob.next_text().await.contains(r#""data":{ "content" : "Hell\u006f" }"#));
}

#[tokio::test(start_paused = true)]
async fn a_refused_event_does_not_use_its_id_up() {
    let builder = builder()
        .schema("message.send", &message())
        .schema("handled", &message())
        .on("handled", |_: Context, data: Value| async move { Ok(data) });
    let hub = TestHub::start(builder).unwrap();
    let mut ann = hub.connect("ann").await;
    ann.join("a").await;
    for event in ["message.send", "handled"] {
        let with =
            |content: Value| json!({"event": event, "room": "a", "id": event, "data": {"content": content}});
        assert_eq!(ann.ask(with(json!(1))).await["data"]["code"], "schema", "{event}");
        assert_eq!(ann.ask(with(json!("1"))).await["event"], "ack", "{event}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_without_a_handler_or_a_schema_is_unknown_unless_the_room_takes_any() {
    let rule = |pattern: &str| RoomRules::new(pattern).join(Access::Anyone);
    let builder = Hub::builder()
        .rule(rule("open").publish(Access::Anyone).any_event())
        .rule(rule("read"))
        .rule(rule("a").publish(Access::Anyone).ephemeral("typing.*"))
        .schema("known", &json!({"type": "integer"}));
    let hub = TestHub::start(builder).unwrap();
    let mut ann = hub.connect("ann").await;
    for room in ["open", "read", "a"] {
        ann.join(room).await;
    }
    let refused = ann.request_in("a", "other", json!(1)).await["data"].clone();
    assert_eq!(refused["code"], "unknown_event");
    let sentence = refused["message"].as_str().unwrap();
    assert!(sentence.contains("HubBuilder::schema") && sentence.contains("[[events]]"), "{sentence}");
    for (room, event, data, code) in [
        ("a", "known", json!(1), "ack"),
        ("a", "known", json!("1"), "schema"),
        // An ephemeral event's data is what others get, too.
        ("a", "typing.start", json!(1), "unknown_event"),
        ("open", "other", json!({"anything": 1}), "ack"),
        ("open", "known", json!("1"), "schema"),
        // Who may not publish learns nothing of events.
        ("read", "known", json!("1"), "forbidden"),
        ("read", "other", json!(1), "forbidden"),
    ] {
        let answer = ann.request_in(room, event, data).await;
        assert_eq!(answer["data"]["code"].as_str().unwrap_or("ack"), code, "{event} in {room}: {answer}");
    }
    assert_eq!(ann.request("known", json!(1)).await["data"]["code"], "unknown_event", "it has no room");
}

#[tokio::test(start_paused = true)]
async fn a_binary_event_needs_no_schema_and_is_no_json() {
    let hub = TestHub::start(builder().binary_event("image").schema("text", &json!(true))).unwrap();
    let (mut ann, mut bob) = (hub.connect("ann").await, hub.connect("bob").await);
    ann.join("a").await;
    bob.join("a").await;
    ann.send_binary(json!({"event": "image", "room": "a"}), b"\0\xff").await;
    let TestFrame::Binary(header, payload) = bob.next().await else {
        unreachable!("a binary frame was sent")
    };
    assert_eq!((&header["event"], payload), (&json!("image"), Bytes::from_static(b"\0\xff")));
    assert_eq!(code_and_pointer(&mut ann, "image", json!(1)).await.0, "invalid");
    for (event, code) in [("text", "invalid"), ("other", "unknown_event")] {
        ann.send_binary(json!({"event": event, "room": "a", "id": event}), b"x").await;
        let answer = ann.next_where(|message| message["id"] == event).await;
        assert_eq!(answer["data"]["code"], code);
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Said {
    #[schemars(length(max = 5))]
    content: String,
    #[serde(default)]
    lines: Vec<Line>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Line {
    #[schemars(range(max = 10))]
    number: u32,
}

#[tokio::test(start_paused = true)]
async fn a_types_own_schema_says_more_than_the_type() {
    let builder = builder()
        .schema_of::<Said>("published")
        .on_with_schema("handled", |_: Context, said: Said| async move { Ok(said.content) });
    let hub = TestHub::start(builder).unwrap();
    let mut ann = hub.connect("ann").await;
    ann.join("a").await;
    for event in ["published", "handled"] {
        for (data, pointer) in [
            (json!({"content": "Hello", "lines": [{"number": 10}]}), None),
            (json!({"content": "too long"}), Some("/content")),
            (json!({"content": "", "lines": [{"number": 1}, {"number": 11}]}), Some("/lines/1/number")),
            (json!({"content": "", "lines": [{"number": "1"}]}), Some("/lines/0/number")),
        ] {
            let (code, place) = code_and_pointer(&mut ann, event, data.clone()).await;
            let expected = if pointer.is_some() { "schema" } else { "ack" };
            assert_eq!((code.as_str(), place.as_str()), (expected, pointer), "{event} {data}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_schema_that_cannot_be_used_keeps_the_hub_from_starting() {
    let fault = |builder: HubBuilder| TestHub::start(builder).err().unwrap();
    let remote = json!({"properties": {"a": {"$ref": "https://example.com/a.json"}}});
    let told = fault(builder().schema("message.send", &remote));
    assert!(matches!(told, BuildError::Schema(..)));
    let told = told.to_string();
    assert!(told.contains("message.send") && told.contains("https://example.com/a.json"), "{told}");
    let told = fault(builder().schema("a", &json!({"properties": {"b": {"pattern": "(?!x)"}}}))).to_string();
    assert!(told.contains("/properties/b/pattern"), "{told}");
    let twice = builder().schema("a", &json!(true)).schema("a", &json!(true));
    assert!(matches!(fault(twice), BuildError::TwoSchemas(event) if event == "a"));
    assert!(matches!(fault(builder().binary_event("room.x")), BuildError::Event(_)));
    let json_handler = builder().binary_event("a").on("a", |_: Context, (): ()| async { Ok(()) });
    assert!(matches!(fault(json_handler), BuildError::BinaryAndJson(_)));
    let binary_handler = builder().schema("a", &json!(true)).on_binary("a", |_: Context, _| async { Ok(()) });
    assert!(matches!(fault(binary_handler), BuildError::BinaryAndJson(_)));
}
