//! The Cardea gateway. Two lives meet in the snapshot: the life of a request (`traffic`, `policy`)
//! reads it, the life of a configuration (`control`) builds it and swaps it. ARCHITECTURE.md tells
//! both.

pub mod cli;

pub mod server;

pub mod traffic;

pub mod policy;

pub mod snapshot;

pub mod control;

pub mod admin;

pub mod telemetry;
