//! What a service manager is told: that the server listens, and that it is about to end. Where there is none, nobody is told.

use sd_notify::NotifyState;
use tracing::warn;

/// It listens, on all that it is to listen on.
pub(crate) fn is_ready() {
    tell(&[NotifyState::Ready]);
}

/// It sends everyone away, and then ends.
pub(crate) fn is_stopping() {
    tell(&[NotifyState::Stopping]);
}

/// By `sd_notify(3)`: through the socket that NOTIFY_SOCKET names.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "the service manager can't be told");
    }
}
