//! What can't be shown on a real machine.

pub mod log_model;
