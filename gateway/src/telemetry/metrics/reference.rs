//! The reference page of the metrics, made from the table of names. A test keeps the page current;
//! with `CARDEA_BLESS=1` it writes it.

use std::fmt::Write;
use std::path::Path;

use super::buckets::BOUNDS_S;
use cardea_http2::Fault;

use super::cells::{DatagramDrop, HandshakeEnd, ProxyHeaderEnd, StreamEnd};
use super::names::Metric;

const INTRODUCTION: &str = "\
<!-- Made from gateway/src/telemetry/metrics/names.rs by
     `CARDEA_BLESS=1 cargo test -p cardea-gateway metrics::reference`. -->

# Metrics

What `/metrics` of the admin listener shows, in the text format of Prometheus. Labels are names of
the configuration and closed sets; nothing that a client sends becomes a label.

- A route has series once it was asked for. `domain=\"\"` stands for requests whose host no domain
  claims, `route=\"\"` for requests that match no route of their domain.
- `code` is the class of the status, `1xx` to `5xx`. `reason` is a reason code, as in the access log.
- A name keeps its series across reloads. A name that leaves the configuration takes its series with
  it once the last request that began under it has ended; if it comes back, it counts from zero.
- Domains, routes, streams, upstreams and listeners beyond the number that is counted apart are counted
  together as `_other`.
- Each metric that counts requests or connections is added up over all workers when it is read, and
  the workers go on counting meanwhile: sums of different metrics may differ by what happened then.

";

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("| metric | kind | labels | |\n|---|---|---|---|\n");
    for metric in Metric::ALL {
        let labels: Vec<_> = metric.labels().iter().map(|it| format!("`{it}`")).collect();
        writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            metric.name(),
            metric.kind().as_str(),
            labels.join(", "),
            metric.help(),
        )
        .expect("a string takes everything");
    }
    page.push_str("\nHow TLS handshakes end:\n\n| `result` | |\n|---|---|\n");
    for end in HandshakeEnd::ALL {
        writeln!(page, "| `{}` | {} |", end.as_str(), end.help())
            .expect("a string takes everything");
    }
    page.push_str("\nHow HTTP/2 is broken:\n\n| `fault` | |\n|---|---|\n");
    for fault in Fault::ALL {
        let (word, text) = (fault.as_str(), fault.to_string());
        writeln!(
            page,
            "| `{word}` | {}{}. |",
            text[..1].to_uppercase(),
            &text[1..]
        )
        .expect("a string takes everything");
    }
    page.push_str("\nWhat comes of headers of the PROXY protocol:\n\n| `result` | |\n|---|---|\n");
    for end in ProxyHeaderEnd::ALL {
        writeln!(page, "| `{}` | {} |", end.as_str(), end.help())
            .expect("a string takes everything");
    }
    page.push_str("\nHow connections and sessions of streams end:\n\n| `reason` | |\n|---|---|\n");
    for end in StreamEnd::ALL {
        writeln!(page, "| `{}` | {} |", end.as_str(), end.help())
            .expect("a string takes everything");
    }
    page.push_str("\nWhy datagrams are dropped:\n\n| `reason` | |\n|---|---|\n");
    for why in DatagramDrop::ALL {
        writeln!(page, "| `{}` | {} |", why.as_str(), why.help())
            .expect("a string takes everything");
    }
    let bounds: Vec<_> = BOUNDS_S.iter().map(ToString::to_string).collect();
    writeln!(
        page,
        "\nThe buckets of every histogram, in seconds: {}.",
        bounds.join(", ")
    )
    .expect("a string takes everything");
    page
}

#[test]
fn the_reference_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/metrics.md");
    let page = page();
    if std::env::var_os("CARDEA_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/reference/metrics.md is out of date: CARDEA_BLESS=1 cargo test -p cardea-gateway metrics::reference"
    );
}
