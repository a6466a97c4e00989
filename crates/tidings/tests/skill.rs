//! What the skill's reference for axum says is the code of this file: compiled, and built.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use serde::{Deserialize, Serialize};

const REFERENCE: &str = include_str!("../../../skills/websocket-builder/references/axum.md");
const THIS_FILE: &str = include_str!("skill.rs");

#[derive(Serialize, Deserialize)]
struct Said {
    content: String,
}

#[tokio::test]
async fn the_references_code_is_compiled_and_makes_a_hub() -> Result<(), Box<dyn std::error::Error>> {
    let (secret, app) = ("canary-bird of the skill, 32 bytes and more", axum::Router::<()>::new());
    // From here on it is the reference's.
    use tidings::{Access, AckError, Context, Hub, RoomRules, auth::Jwt};

    let hub = Hub::builder()
        .authenticate(Jwt::hs256(secret.as_bytes())?)
        .rule(RoomRules::new("chat:*").join(Access::Members))
        // Where `tidings smoke` proves that all of this works. No token of the application names these.
        .rule(RoomRules::new("smoke:*").join(Access::Members).publish(Access::Members).any_event())
        .on("message.send", |ctx: Context, said: Said| async move {
            // The message's room, of which the sender is a member. What he says in the data may be anything.
            let room = ctx.room().ok_or_else(|| AckError::invalid("name the room"))?;
            // Store here, then broadcast: what is returned is the ack.
            Ok(ctx.broadcast(room, "message.send", &said).await?)
        })
        .build()?;
    let app = app.route("/ws", hub.route());
    // Up to here.
    drop((app, hub));
    Ok(())
}

fn lines(code: &str) -> Vec<&str> {
    code.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_reference_says_what_is_compiled_here() {
    let said = REFERENCE.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let (_, from) = THIS_FILE.split_once("// From here on it is the reference's.\n").unwrap();
    let (compiled, _) = from.split_once("// Up to here.\n").unwrap();
    assert_eq!(lines(said), lines(compiled));
}
