//! What a node needs of its broker before it starts.

use std::time::{Duration, Instant};

use tidings::{Redis, RedisFault};
use tracing::{info, warn};

use crate::failure::Failure;

/// A broker that starts together with its nodes may take so long.
const START_MAX: Duration = Duration::from_secs(10);
/// Between two attempts to reach it.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until the broker can be used, and says what about it will not always work.
///
/// # Errors
/// When it can't be reached in time, or can't be used.
pub(crate) async fn check(redis: &Redis) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        match redis.check().await {
            Ok(report) => {
                info!(version = report.version, "Redis can be used");
                for warning in report.warnings {
                    warn!("{warning}");
                }
                return Ok(());
            }
            Err(fault) if fault.is_passing() && began.elapsed() < START_MAX => {
                warn!(%fault, "waiting for Redis");
                #[expect(clippy::disallowed_methods, reason = "a pause between two attempts")]
                tokio::time::sleep(PAUSE).await;
            }
            Err(fault) => return Err(failure(&fault)),
        }
    }
}

fn failure(fault: &RedisFault) -> Failure {
    let failure = if fault.is_passing() { Failure::failed(fault) } else { Failure::config(fault) };
    failure.fix(fault.fix())
}
