//! The policies, in the order they run, and the chain that a route's traffic passes through.
//! A request meets them after routing and before an upstream is chosen; its response meets them
//! in the same order before it is serialised, so that the most specific edit has the last word.
//!
//! Must not: know how an exchange travels. A policy sees the exchange, header lists and replies.

mod levels;

pub use levels::{Levels, Place};

use crate::traffic::exchange::Exchange;
use crate::traffic::respond::{Reply, Response};

/// A request goes on, or is answered here.
pub type Verdict = Result<(), Box<Reply>>;

macro_rules! policies {
    ($($(#[$why:meta])* $module:ident :: $Policy:ident)*) => {
        $(pub mod $module;)*

        /// One compiled policy.
        #[derive(Debug)]
        pub enum Policy { $($(#[$why])* $Policy($module::$Policy)),* }

        impl Policy {
            /// The name it has in the configuration, in logs and in `explain`.
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$Policy(_) => stringify!($module)),* }
            }

            /// What it was configured to do, for `explain`.
            pub fn summary(&self) -> String {
                match self { $(Self::$Policy(policy) => policy.summary()),* }
            }

            fn on_request(&self, exchange: &mut Exchange<'_>) -> Verdict {
                match self { $(Self::$Policy(policy) => policy.on_request(exchange)),* }
            }

            fn on_response(&self, exchange: &Exchange<'_>, response: &mut Response) {
                match self { $(Self::$Policy(policy) => policy.on_response(exchange, response)),* }
            }
        }

        impl Chain {
            /// The policies of some levels, in the order they run.
            pub fn compile(levels: &mut Levels<'_>) -> Self {
                let mut chain = Vec::new();
                $(chain.extend($module::$Policy::compile(levels).into_iter().map(Policy::$Policy));)*
                Self(chain.into())
            }
        }
    };
}

// The order of execution, each with why it stands there.
policies! {
    /// First: whoever may not come at all should cost nothing more.
    ip_access::IpAccess
    /// A preflight is answered before it is counted or redirected: browsers follow neither.
    cors::Cors
    /// After the preflights, which browsers make without their certificate, and before anything
    /// that counts or costs.
    client_access::ClientAccess
    /// Before anything that costs memory, a body, or an upstream.
    rate_limit::RateLimit
    /// Before an answer is chosen, so that a declared length too large is refused at once.
    body_limit::BodyLimit
    /// An answer that needs no upstream; a redirect sees the path as the client sent it.
    redirect::Redirect
    /// The other answer that needs no upstream.
    respond::Respond
    /// After every decision that depends on what the client asked for.
    rewrite::Rewrite
    /// Last: edits see, and may overrule, what everything before them did.
    header_edits::HeaderEdits
}

/// The policies of a route in the order they run, outer levels before inner ones.
#[derive(Debug, Default)]
pub struct Chain(Box<[Policy]>);

impl Chain {
    /// The policies in the order they run.
    pub fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.0.iter()
    }

    /// The request phase: the first policy that answers ends it.
    pub fn on_request(&self, exchange: &mut Exchange<'_>) -> Verdict {
        self.0
            .iter()
            .try_for_each(|policy| policy.on_request(exchange))
    }

    /// The response phase, for an upstream's responses and for our own.
    pub fn on_response(&self, exchange: &Exchange<'_>, response: &mut Response) {
        for policy in &self.0 {
            policy.on_response(exchange, response);
        }
    }
}
