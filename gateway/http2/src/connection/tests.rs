use super::*;

mod client;
mod floods;
mod flow;
mod honest;
mod messages;
mod order;
mod rules;
mod splits;
mod states;
mod upgrade;
mod windows;
mod wire;
