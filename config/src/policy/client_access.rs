//! Settings of `client_access`.
//!
//! Must not: say how clients show certificates; `tls.client_certificates` does.

use crate::model::CertificateRule;
use crate::model::text::Sound;

crate::model::section! {
    /// Who may come, by client certificate. Whether clients are asked for one is up to
    /// `tls.client_certificates` of the domain or the listener.
    pub struct ClientAccess {
        /// The clients that may come: whoever one of these rules means. Everybody with a
        /// certificate if empty.
        pub allow: Vec<CertificateRule> = Vec::new(),
    }
}

impl Sound for ClientAccess {
    fn check(&self) -> Result<(), String> {
        self.allow.iter().try_for_each(CertificateRule::check)
    }
}
