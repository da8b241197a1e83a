//! Where the gateway speaks of itself: the admin listener and the access log. Like the listeners
//! of traffic they are opened before a configuration takes effect, so that one that cannot be had
//! refuses it.
//!
//! Must not: close what the last good configuration uses before the next one is in force.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use cardea_config::diagnostic::Diagnostic;
use cardea_config::model::Document;

use super::compile::settings::access_log_target;
use super::{Control, State};
use crate::admin::{Admin, Backend};

/// What a configuration changes about the outlets.
#[derive(Debug)]
pub(super) struct Outlets {
    admin: AdminChange,
}

#[derive(Debug)]
enum AdminChange {
    Keep,
    Stop,
    Start(SocketAddr, Admin),
}

impl Control {
    /// Starts the admin listener of the first configuration; returns its address, if it has one.
    ///
    /// # Errors
    ///
    /// When the address cannot be had.
    pub fn serve_admin(&self) -> io::Result<Option<SocketAddr>> {
        let mut state = self.state();
        let document = Arc::clone(&state.compiled.document);
        let Some(admin) = document.admin.on() else {
            return Ok(None);
        };
        let serving = self.start_admin(admin.bind)?;
        let address = serving.address();
        state.admin = Some((admin.bind, serving));
        Ok(Some(address))
    }

    fn start_admin(&self, bind: SocketAddr) -> io::Result<Admin> {
        let control = self.this.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        Admin::start(bind, control as Arc<dyn Backend>)
    }

    /// Opens what a document wants and the one in force has not.
    pub(super) fn open_outlets(
        &self,
        state: &State,
        document: &Document,
    ) -> Result<Outlets, Diagnostic> {
        let before = access_log_target(&state.compiled.document).0;
        if access_log_target(document).0 != before {
            check_access_log(document)?;
        }
        let bind = document.admin.on().map(|admin| admin.bind);
        let admin = match (bind, &state.admin) {
            (Some(bind), Some((in_use, _))) if bind == *in_use => AdminChange::Keep,
            (None, _) => AdminChange::Stop,
            (Some(bind), _) => {
                let admin = self.start_admin(bind).map_err(|error| {
                    let message = format!("the admin listener cannot listen on {bind}: {error}");
                    Diagnostic::error("E-admin", None, message)
                        .remedy("free the address, or choose another `admin.bind`")
                })?;
                AdminChange::Start(bind, admin)
            }
        };
        Ok(Outlets { admin })
    }

    /// Turns to the outlets of a document that takes effect.
    pub(super) fn turn_outlets(&self, state: &mut State, document: &Document, outlets: Outlets) {
        let before = match outlets.admin {
            AdminChange::Keep => None,
            AdminChange::Stop => state.admin.take(),
            AdminChange::Start(bind, admin) => {
                tracing::info!(address = %admin.address(), "admin_listener_moved");
                state.admin.replace((bind, admin))
            }
        };
        if let Some((_, admin)) = before {
            admin.stop();
        }
        let (target, lines_max) = access_log_target(document);
        self.access_log.configure(target, lines_max);
    }
}

/// Whether the access log that a document wants could be written.
pub(super) fn check_access_log(document: &Document) -> Result<(), Diagnostic> {
    let (target, _) = access_log_target(document);
    target.check().map_err(|error| {
        let message = format!("the access log {target} cannot be opened: {error}");
        Diagnostic::error("E-access-log", None, message)
            .remedy("make its directory, or let the gateway write there")
    })
}
