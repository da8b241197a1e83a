//! Shows an authority that the hosts of an order are ours.
//!
//! Must not: leave proof lying about that can be taken away.

use instant_acme::{
    AuthorizationStatus, ChallengeStatus, ChallengeType, Identifier, Order, OrderStatus,
};

use super::{AUTHORITY_TIME_MAX, Job, NONCES_MAX, PATIENCE, Underway};
use crate::account::Access;
use crate::agent::CHALLENGES_EVERY;
use crate::challenges::{Kind, Stored, is_token};
use crate::error::Error;
use crate::settings::Challenge;
use crate::solver;

impl Job<'_> {
    /// Shows that the hosts are ours, and waits until the authority believes it.
    pub(super) async fn prove(
        &self,
        access: &Access,
        order: &mut Order,
        underway: &mut Underway,
    ) -> Result<(), Error> {
        let mut tokens = Vec::new();
        let result = self.prove_with(access, order, underway, &mut tokens).await;
        // Whatever came of it, nothing is left lying about; what cannot be taken away is over in
        // a day.
        for token in tokens {
            let _ = self.challenges.withdraw(&token, self.storage);
        }
        underway.clear_records(self).await;
        result
    }

    async fn prove_with(
        &self,
        access: &Access,
        order: &mut Order,
        underway: &mut Underway,
        tokens: &mut Vec<String>,
    ) -> Result<(), Error> {
        self.lay_out(access, order, underway, tokens).await?;
        if !tokens.is_empty() || !underway.records.is_empty() {
            let seen_after = match &self.issuer.challenge {
                Challenge::Dns01(solver) => solver.propagation,
                // The authority may come to any gateway that shares the storage.
                Challenge::Http01 | Challenge::TlsAlpn01 => CHALLENGES_EVERY.mul_f64(2.5),
            };
            tokio::time::sleep(seen_after).await;
        }
        // The authority may be looking already: what it is shown stays until it has.
        let mut nonces = 0;
        loop {
            let is_first = nonces == 0;
            match self.ask_to_look(access, order, is_first).await {
                Err(error) if error.is_of_nonce() && nonces < NONCES_MAX => nonces += 1,
                result => return result,
            }
        }
    }

    /// Has the authority look, and waits for its verdict.
    async fn ask_to_look(
        &self,
        access: &Access,
        order: &mut Order,
        is_first: bool,
    ) -> Result<(), Error> {
        self.set_ready(access, order, is_first).await?;
        let source = match order.poll_ready(&PATIENCE).await {
            Ok(OrderStatus::Invalid) => return Err(why_unproven(access, order).await),
            Ok(_) => return Ok(()),
            Err(instant_acme::Error::Timeout(_)) => {
                return Err(Error::Slow {
                    step: "the authority's search for proof",
                    after: AUTHORITY_TIME_MAX,
                });
            }
            Err(source) => source,
        };
        let is_answer = matches!(source, instant_acme::Error::Api(_));
        let error = access.client.failed("waiting for the authority", source);
        match is_answer && !error.is_of_nonce() {
            true => Err(why_unproven(access, order).await),
            false => Err(error),
        }
    }

    /// Lays out the proof for every host that still needs one.
    async fn lay_out(
        &self,
        access: &Access,
        order: &mut Order,
        underway: &mut Underway,
        tokens: &mut Vec<String>,
    ) -> Result<(), Error> {
        let failed = |source| access.client.failed("reading the authorisations", source);
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(failed)?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let host = host_of(&authorization);
            let offered = offered(&authorization);
            let (kind, name) = wanted(&self.issuer.challenge);
            let Some(challenge) = authorization.challenge(kind) else {
                return Err(Error::NoChallenge {
                    host,
                    wanted: name,
                    offered,
                });
            };
            let proof = challenge.key_authorization();
            let token = challenge.token.clone();
            if !is_token(&token) && !matches!(self.issuer.challenge, Challenge::Dns01(_)) {
                return Err(failed(instant_acme::Error::Str("a token")));
            }
            let kept = match &self.issuer.challenge {
                Challenge::Http01 => {
                    let proof = proof.as_str().to_owned();
                    Stored::new(Kind::File, &host, &token, proof)
                }
                Challenge::TlsAlpn01 => {
                    let digest = data_encoding::HEXLOWER.encode(proof.digest().as_ref());
                    Stored::new(Kind::Handshake, &host, &token, digest)
                }
                Challenge::Dns01(solver) => {
                    let value = proof.dns_value();
                    underway.note_record(self, &host, &value)?;
                    solver::present(solver, &host, &value).await?;
                    continue;
                }
            };
            tokens.push(token);
            self.challenges.present(kept, self.storage)?;
        }
        Ok(())
    }

    /// Tells the authority that it may look. Unless it is told for the first time, it may know of some
    /// hosts already: what is known of them is asked for anew.
    async fn set_ready(
        &self,
        access: &Access,
        order: &mut Order,
        is_first: bool,
    ) -> Result<(), Error> {
        let failed = |source| access.client.failed("asking the authority to look", source);
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(failed)?;
            if !is_first {
                authorization.refresh().await.map_err(failed)?;
            }
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let (kind, _) = wanted(&self.issuer.challenge);
            if let Some(mut challenge) = authorization.challenge(kind)
                && challenge.status == ChallengeStatus::Pending
            {
                challenge.set_ready().await.map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// The host of an authorisation, without the wildcard that it may be for.
fn host_of(authorization: &instant_acme::AuthorizationState) -> String {
    match authorization.identifier().identifier {
        Identifier::Dns(host) => host.clone(),
        Identifier::Ip(address) => address.to_string(),
        other => format!("{other:?}"),
    }
}

fn wanted(challenge: &Challenge) -> (ChallengeType, &'static str) {
    match challenge {
        Challenge::Http01 => (ChallengeType::Http01, "http-01"),
        Challenge::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
        Challenge::Dns01(_) => (ChallengeType::Dns01, "dns-01"),
    }
}

fn offered(authorization: &instant_acme::AuthorizationState) -> String {
    let kinds = authorization.challenges.iter().map(|it| match &it.r#type {
        ChallengeType::Http01 => "http-01".to_owned(),
        ChallengeType::TlsAlpn01 => "tls-alpn-01".to_owned(),
        ChallengeType::Dns01 => "dns-01".to_owned(),
        other => format!("{other:?}"),
    });
    kinds.collect::<Vec<_>>().join(", ")
}

/// What the authority found instead of the proof.
async fn why_unproven(access: &Access, order: &mut Order) -> Error {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else {
            continue;
        };
        if authorization.refresh().await.is_err() {
            continue;
        }
        let host = host_of(&authorization);
        let mut faults = authorization.challenges.iter();
        if let Some(problem) = faults.find_map(|challenge| challenge.error.as_ref()) {
            let detail = problem.detail.clone();
            return Error::Unproven {
                host,
                detail: detail.unwrap_or_else(|| "it does not say why".to_owned()),
            };
        }
    }
    let source = instant_acme::Error::Str("the reason why the order became invalid");
    access.client.failed("the order", source)
}
