//! A real HAProxy in front of the gateway, and behind it.

use cardea_tests::certificate::Authority;
use cardea_tests::gateway::Site;
use cardea_tests::haproxy::Haproxy;
use cardea_tests::tls::ClientTls;
use cardea_tests::{Client, Gateway};
use serde_json::json;

use super::{REQUIRED, counted, gateway, logged};

#[test]
fn haproxy_in_front_sends_both_versions() {
    let (gateway, origin, _) = gateway(REQUIRED, "");
    for (number, option) in [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options crc32c",
    ]
    .iter()
    .enumerate()
    {
        let sections = format!(
            "listen front\n  mode tcp\n  bind <bind>\n  server gateway <gateway> {option}\n"
        );
        let front = Haproxy::start(&sections, &[("gateway", &gateway.listener("web"))], |_| {});
        let path = format!("/{number}");
        let mut client = Client::connect(front.address());
        let own = client.local().to_string();
        for _ in 0..2 {
            assert_eq!(client.get("a.test", &path).status, 200, "{option}");
        }
        let line = logged(&gateway, &path);
        assert_eq!(line["peer"], own.as_str(), "{option}");
        assert_eq!(
            line["proxy_destination"],
            front.address().to_string(),
            "{option}"
        );
        assert_ne!(line["proxy"], own.as_str(), "{option}");
    }
    assert_eq!(origin.requests().len(), 6);
    assert!(counted(&gateway, "web", "v1") >= 1.0);
    assert!(counted(&gateway, "web", "v2") >= 2.0);
}

#[test]
fn haproxy_in_front_leaves_tls_to_the_gateway() {
    let (gateway, _origin, authority) = gateway(REQUIRED, "");
    let sections =
        "listen front\n  mode tcp\n  bind <bind>\n  server gateway <gateway> send-proxy-v2\n";
    let front = Haproxy::start(
        sections,
        &[("gateway", &gateway.listener("secure"))],
        |_| {},
    );
    let config = ClientTls::trusting(&authority).config();
    let mut client = Client::connect_tls(front.address(), &config, "a.test");
    let own = client.local().to_string();
    assert_eq!(client.get("a.test", "/").status, 200);
    let line = logged(&gateway, "/");
    assert_eq!(
        (&line["peer"], &line["tls_version"]),
        (&json!(own), &json!("TLSv1.3"))
    );
}

#[test]
fn haproxy_in_front_says_what_tls_it_took_off() {
    let (gateway, _origin, _) = gateway(REQUIRED, "");
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let sections = "\
listen front
  bind <bind> ssl crt <files>/site.both ca-file <files>/clients.pem verify required
  unique-id-format id-%pid
  server gateway <gateway> send-proxy-v2 proxy-v2-options ssl,cert-cn,authority,unique-id,crc32c
";
    let front = Haproxy::start(
        sections,
        &[("gateway", &gateway.listener("web"))],
        |files| {
            let identity = servers.issue(&["a.test"]);
            let both = format!("{}{}", identity.chain_pem, identity.key_pem);
            std::fs::write(files.join("site.both"), both).expect("write a certificate");
            clients.save(files, "clients");
        },
    );
    let identity = clients.issue_with(&["c.test"], |params| {
        params.distinguished_name = Default::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Jo");
    });
    let tls = ClientTls {
        identity: Some(&identity),
        ..ClientTls::trusting(&servers)
    };
    let mut client = Client::connect_tls(front.address(), &tls.config(), "a.test");
    let own = client.local().to_string();
    assert_eq!(client.get("a.test", "/").status, 200);
    let line = logged(&gateway, "/");
    assert_eq!(line["peer"], own.as_str());
    assert_eq!(line["proxy_authority"], "a.test");
    assert_eq!(line["proxy_tls_version"], "TLSv1.3");
    assert_eq!(line["proxy_tls_name"], "Jo");
    let id = line["proxy_unique_id"].as_str().unwrap_or_default();
    assert!(id.starts_with("id-"), "{line}");
}

/// An HAProxy that wants a header and answers with what it was told.
const BEHIND: &str = "\
frontend behind
  bind <bind> accept-proxy <tls>
  http-request return status 200 content-type text/plain lf-string \
\"%[src]:%[src_port] %[dst]:%[dst_port] %[fc_pp_authority] %[fc_pp_unique_id] %[req.hdr(x-request-id)]\"
";

#[test]
fn haproxy_behind_is_told_of_the_client() {
    let authority = Authority::new("everybody's");
    for (version, tls) in [("v1", false), ("v2", false), ("v1", true), ("v2", true)] {
        let site = Site::new();
        authority.issue(&["a.test"]).save(site.path(), "site");
        authority.save(site.path(), "ca");
        let secure = if tls {
            "ssl crt <files>/origin.both"
        } else {
            ""
        };
        let behind = Haproxy::start(&BEHIND.replace("<tls>", secure), &[], |files| {
            let identity = authority.issue(&["origin.test"]);
            let both = format!("{}{}", identity.chain_pem, identity.key_pem);
            std::fs::write(files.join("origin.both"), both).expect("write a certificate");
        });
        let towards = if tls {
            "tls: { ca: ca.pem, server_name: origin.test },"
        } else {
            ""
        };
        let config = format!(
            r#"
listeners:
  - {{ name: secure, bind: ["127.0.0.1:0"], tls: {{}} }}
certificates: [{{ name: site, chain: site.pem, key: site.key }}]
domains:
  - hosts: [a.test]
    routes: [{{ to: pool }}]
upstreams:
  pool:
    endpoints: ["<behind>"]
    proxy_protocol: {version}
    {towards}
    health: {{ http: {{}}, interval: 50ms, timeout: 2s }}
"#
        );
        let config = config.replace("},\n    health", "}\n    health");
        let gateway: Gateway = site.start(&config, &[("behind", &behind.address())]);
        let trust = ClientTls::trusting(&authority).config();
        let listener = gateway.listener("secure");
        for _ in 0..2 {
            let mut client = Client::connect_tls(listener, &trust, "a.test");
            let mut first_id = None;
            for _ in 0..2 {
                let response = client.get("a.test", "/");
                let text = response.text();
                let words: Vec<&str> = text.split(' ').collect();
                let own = client.local().to_string();
                let there = listener.to_string();
                assert_eq!(
                    words[..2],
                    [own.as_str(), &there],
                    "{version} {tls}: {text}"
                );
                if version == "v2" {
                    assert_eq!(words[2], "a.test", "{text}");
                    // The connection is known by the first request on it.
                    let first = first_id.get_or_insert_with(|| words[4].to_owned());
                    assert_eq!(words[3], *first, "{text}");
                }
            }
        }
        // It takes our checks for what they are.
        let labels = [("upstream", "pool"), ("state", "usable")];
        gateway.wait_for_metric("cardea_upstream_endpoints", &labels, 1.0);
    }
}
