//! The life of a request, in the order it is lived.

pub mod buffer;
pub mod lane;
pub mod listener;
pub mod proxy_protocol;
pub mod random;
pub mod socket;
pub mod timer;
pub mod tls;
pub mod worker;

pub mod admit;
pub mod connection;
pub mod domain;
pub mod exchange;
pub mod headers;
pub mod respond;
pub mod route;

pub mod balance;
pub mod body;
pub mod flow;
pub mod forward;
pub mod grpc_web;
pub mod http2;
pub mod peer;
pub mod proxy_value;
pub mod relay;
pub mod splice;
pub mod stream;
pub mod tunnel;
pub mod udp;
pub mod upload;
pub mod upstream;

pub mod access_log;
pub mod finish;
