use super::*;

mod flow;
