//! The reference page of the reasons, made from their table. A test keeps the page current; with
//! `CARDEA_BLESS=1` it writes it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use super::Reason;

const INTRODUCTION: &str = "\
<!-- Made from gateway/src/traffic/respond/reason.rs by
     `CARDEA_BLESS=1 cargo test -p cardea-gateway reason::tests`. -->

# Reasons

Whenever the gateway answers by itself, or ends an exchange early, it names one of these. The code
is in the access log (`reason`), in `cardea_responses_by_gateway_total`, in the gateway's JSON
answers, and in a header field if `responses.reason_header` names one. A page of your own can be
given to each code under `responses.pages`. Codes do not change; an answer without one came from
the upstream.

A status with an asterisk is not always sent: the head of the response may have gone out before, or
its receiver may have left. Then it is what logs and metrics count the exchange under.

";

/// Whether an exchange can end so when its response has begun, or its client is gone.
fn may_come_late(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::BodyTimeout
            | Reason::ChunkMalformed
            | Reason::UpstreamBodyCut
            | Reason::UpstreamBodyTimeout
            | Reason::RequestTimeout
            | Reason::ClientClosed
            | Reason::ClientTooSlow
    )
}

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("| code | status | meaning | what to do |\n|---|---|---|---|\n");
    for reason in Reason::ALL.iter().copied() {
        let mark = if may_come_late(reason) { "\\*" } else { "" };
        writeln!(
            page,
            "| <a id=\"{code}\"></a>`{code}` | {status}{mark} | {explanation} | {advice} |",
            code = reason.code(),
            status = reason.status(),
            explanation = reason.explanation(),
            advice = reason.advice(),
        )
        .expect("a string takes everything");
    }
    page
}

#[test]
fn the_reference_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/reasons.md");
    let page = page();
    if std::env::var_os("CARDEA_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/reference/reasons.md is out of date: CARDEA_BLESS=1 cargo test -p cardea-gateway reason::tests"
    );
}

#[test]
fn every_reason_has_a_code_of_its_own_and_words_that_fit_the_table() {
    let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        for words in [reason.explanation(), reason.advice()] {
            assert!(
                words.ends_with('.') && !words.contains(['|', '\n']),
                "{words}"
            );
        }
    }
}
