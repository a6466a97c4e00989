//! A live dashboard on axum: login, database and page are the application's, its viewers Tidings', in one process on one port.

pub mod app;
pub mod database;
pub mod login;
pub mod page;
pub mod realtime;
pub mod sampler;
