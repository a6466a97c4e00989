//! What is asked of a server, a file each.

pub mod connections;
pub mod echo;
pub mod fanout;
pub mod handshakes;
mod window;

pub use window::Window;
