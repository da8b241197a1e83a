//! Certificates from authorities that speak ACME (RFC 8555): accounts, orders, challenges, renewal.
//!
//! A [`Agent`] keeps the certificates it is told of: it orders those that are missing, renews those
//! that are due, and leaves each as one PEM file, key and chain together, where the gateway's
//! certificate store picks it up. Everything it needs to go on after being killed at any moment is
//! in its [`Storage`], which several gateways may share: one of them orders, all of them answer.
//!
//! In the life of a request only [`Challenges`] is read: what an authority that looks for proof is
//! to be shown.
//!
//! A [`Stapler`] asks authorities what they say about certificates that are in use (RFC 6960), and
//! has it stapled to handshakes.
//!
//! It knows neither the configuration document nor the gateway, and writes no log: what an operator
//! should hear is an [`Event`] or an [`Error`].

mod account;
mod agent;
mod bundle;
mod challenges;
mod client;
mod error;
mod keeper;
mod on_demand;
mod order;
mod retries;
mod schedule;
mod settings;
mod solver;
mod staples;
mod storage;

pub use agent::{Agent, Event, Observer, State, Status};
pub use challenges::Challenges;
pub use error::Error;
pub use on_demand::{Denial, OnDemand, Wish};
pub use settings::{
    Challenge, Credentials, DnsHand, DnsSolver, ExternalAccount, Issuer, KeyKind, Managed, Rule,
    Settings, UpdateAlgorithm, UpdateKey, on_demand_name,
};
pub use staples::{StapleError, StapleEvent, StapleStatus, Stapler};
pub use storage::Storage;
