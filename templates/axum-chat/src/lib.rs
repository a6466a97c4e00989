//! A chat on axum: login, database and page are the application's, rooms are Tidings', in one process on one port.

pub mod app;
pub mod database;
pub mod login;
pub mod page;
pub mod realtime;
