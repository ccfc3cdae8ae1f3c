//! The shell around the core: what makes the Tidings broker a server.

pub mod auth;
