//! TLS towards origins: whom the gateway trusts, what it shows, and what it tells the client when
//! that fails.

use cardea_tests::certificate::Authority;
use cardea_tests::gateway::Site;
use cardea_tests::tls::{self, server_config};
use cardea_tests::wait;
use cardea_tests::wire::Stream;
use cardea_tests::{Gateway, Origin, origin};

use crate::fixture::assert_refused;

/// An origin with a certificate for `origin.test` of `authority`; with `clients`, it demands one.
fn origin_of(authority: &Authority, clients: Option<&Authority>) -> Origin {
    let config = server_config(&authority.issue(&["origin.test"]), clients);
    Origin::serve_tls(config, origin::saying("secret"))
}

/// A gateway with these `tls` settings towards the origin.
fn towards(site: Site, origin: &Origin, tls: &str) -> Gateway {
    let config = format!(
        r#"
domains:
  - hosts: [a.test]
    routes: [{{ to: pool }}]
upstreams:
  pool: {{ endpoints: ["<origin>"], tls: {tls} }}
"#
    );
    site.start(&config, &[("origin", &origin.address())])
}

#[test]
fn a_custom_authority() {
    let authority = Authority::new("origins");
    let origin = origin_of(&authority, None);
    let site = Site::new();
    authority.save(site.path(), "ca");
    let gateway = towards(site, &origin, "{ ca: ca.pem, server_name: origin.test }");
    let mut client = gateway.client();
    for _ in 0..3 {
        assert_eq!(client.get("a.test", "/").text(), "secret");
    }
    assert_eq!(origin.connections(), 1, "TLS connections are kept");
}

#[test]
fn an_unknown_authority_or_a_wrong_name() {
    let authority = Authority::new("origins");
    let stranger = Authority::new("strangers");
    let origin = origin_of(&authority, None);
    for tls in [
        "{ ca: stranger.pem, server_name: origin.test }",
        "{ ca: ca.pem, server_name: other.test }",
        // Without a name it is the address that has to be proved.
        "{ ca: ca.pem }",
        "{ server_name: origin.test }",
    ] {
        let site = Site::new();
        authority.save(site.path(), "ca");
        stranger.save(site.path(), "stranger");
        let gateway = towards(site, &origin, tls);
        assert_refused(&gateway.get("a.test", "/"), 502, "upstream_tls_failed", tls);
    }
    assert_eq!(origin.requests(), []);
}

#[test]
fn verification_can_be_switched_off() {
    let authority = Authority::new("origins");
    let origin = origin_of(&authority, None);
    let gateway = towards(Site::new(), &origin, "{ verify: off }");
    assert_eq!(gateway.get("a.test", "/").text(), "secret");
}

#[test]
fn a_certificate_of_the_gateways_own() {
    let authority = Authority::new("origins");
    let clients = Authority::new("clients");
    let origin = origin_of(&authority, Some(&clients));
    let site = || {
        let site = Site::new();
        authority.save(site.path(), "ca");
        clients.issue(&["gateway.test"]).save(site.path(), "own");
        authority
            .issue(&["gateway.test"])
            .save(site.path(), "wrong");
        site
    };
    let with = "{ ca: ca.pem, server_name: origin.test, certificate: own.pem, key: own.key }";
    assert_eq!(
        towards(site(), &origin, with).get("a.test", "/").text(),
        "secret"
    );
    for tls in [
        "{ ca: ca.pem, server_name: origin.test }",
        "{ ca: ca.pem, server_name: origin.test, certificate: wrong.pem, key: wrong.key }",
    ] {
        let response = towards(site(), &origin, tls).get("a.test", "/");
        assert_eq!(response.status, 502, "{tls}");
        assert!(
            matches!(
                response.reason(),
                Some("upstream_tls_failed" | "upstream_reset")
            ),
            "{response:?}"
        );
    }
}

#[test]
fn a_plain_origin_where_tls_is_expected() {
    let origin = Origin::serve(|connection: &mut origin::Connection| {
        // Whatever a ClientHello is to it.
        if connection.fill().is_ok() {
            connection.answer("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    let gateway = towards(Site::new(), &origin, "{ verify: off }");
    assert_refused(
        &gateway.get("a.test", "/"),
        502,
        "upstream_tls_failed",
        "a plain origin",
    );
}

#[test]
fn a_tls_origin_that_cuts_a_body() {
    let authority = Authority::new("origins");
    let config = server_config(&authority.issue(&["origin.test"]), None);
    // FIN without close_notify: over TLS that is no end of a body (RFC 9112 §9.8).
    let origin = Origin::serve_tls(config, |connection: &mut origin::Connection| {
        connection.request();
        connection.answer("HTTP/1.1 200 OK\r\n\r\nhello");
        let tcp = connection.tcp().try_clone().expect("a socket");
        tcp.shutdown(std::net::Shutdown::Both)
            .expect("an open socket");
    });
    let gateway = towards(Site::new(), &origin, "{ verify: off }");
    let mut client = gateway.client();
    client.send(crate::fixture::get("a.test", "/", ""));
    client
        .try_response()
        .expect_err("a response that is not whole");
}

#[test]
fn changed_files_are_used_without_a_restart() {
    let old = Authority::new("old");
    let new = Authority::new("new");
    let origin = origin_of(&new, None);
    let site = Site::new();
    old.save(site.path(), "ca");
    let gateway = towards(site, &origin, "{ ca: ca.pem, server_name: origin.test }");
    assert_refused(
        &gateway.get("a.test", "/"),
        502,
        "upstream_tls_failed",
        "the old authority",
    );
    gateway.site().write("ca.pem", &new.pem());
    assert_eq!(gateway.reload().code, Some(0));
    assert_eq!(gateway.get("a.test", "/").text(), "secret");
}

/// Answers with whom the gateway showed itself to be: the certificates here name `old` or `new`.
fn naming(connection: &mut origin::Connection) {
    let shown = match connection.stream() {
        Stream::Server(tls) => tls.conn.peer_certificates().map(|chain| chain[0].to_vec()),
        _ => None,
    };
    let shown = shown.unwrap_or_default();
    let has = |name: &str| {
        shown
            .windows(name.len())
            .any(|part| part == name.as_bytes())
    };
    let name = if has("new.gateway.test") {
        "new"
    } else {
        "old"
    };
    while connection.request().is_some() {
        connection.answer(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{name}"
        ));
    }
}

#[test]
fn the_gateways_own_certificate_is_rotated_without_being_asked() {
    let (authority, clients) = (Authority::new("origins"), Authority::new("clients"));
    let config = server_config(&authority.issue(&["origin.test"]), Some(&clients));
    let origin = Origin::serve_tls(config, naming);
    let site = Site::new();
    authority.save(site.path(), "ca");
    clients
        .issue(&["old.gateway.test"])
        .save(site.path(), "own");
    let gateway = towards(
        site,
        &origin,
        "{ ca: ca.pem, server_name: origin.test, certificate: own.pem, key: own.key }",
    );
    let mut client = gateway.client();
    for _ in 0..2 {
        assert_eq!(client.get("a.test", "/").text(), "old");
    }
    assert_eq!(origin.connections(), 1, "it is kept");
    // The key, and a while later the certificate, as SPIFFE helpers write them.
    let renewed = clients.issue(&["new.gateway.test"]);
    gateway.site().write("own.key", &renewed.key_pem);
    gateway
        .stderr
        .wait_for_line("does not belong to the certificate");
    assert_eq!(client.get("a.test", "/").text(), "old");
    gateway.site().write("own.pem", &renewed.chain_pem);
    // On the connection of the same client, so the one kept to the origin is not used again.
    wait::until_true("the new one is shown", || {
        client.get("a.test", "/").text() == "new"
    });
    for _ in 0..5 {
        assert_eq!(client.get("a.test", "/").text(), "new");
        assert_eq!(gateway.get("a.test", "/").text(), "new");
    }
}

#[test]
fn endpoints_are_known_by_what_stands_in_their_certificate() {
    let authority = Authority::new("origins");
    let identity = authority.issue_with(&[], |params| {
        let uri = "spiffe://test/ns/prod/api".try_into().expect("ASCII");
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
    });
    let origin = Origin::serve_tls(server_config(&identity, None), origin::saying("secret"));
    let check = |ca: &str, allow: &str, is_served: bool| {
        let site = Site::new();
        authority.save(site.path(), "ca");
        Authority::new("origins").save(site.path(), "stranger");
        let gateway = towards(site, &origin, &format!("{{ ca: {ca}, allow: [{allow}] }}"));
        let response = gateway.get("a.test", "/");
        if is_served {
            assert_eq!(response.text(), "secret", "{allow}");
        } else {
            assert_refused(&response, 502, "upstream_tls_failed", allow);
        }
    };
    check("ca.pem", "{ uri: \"spiffe://test/ns/prod/*\" }", true);
    check(
        "ca.pem",
        "{ uri: \"spiffe://test/ns/dev/*\" }, { dns: origin.test }",
        false,
    );
    // The rules stand in for the name alone.
    check(
        "stranger.pem",
        "{ uri: \"spiffe://test/ns/prod/*\" }",
        false,
    );
}

#[test]
fn versions_are_pinned() {
    let authority = Authority::new("origins");
    let identity = authority.issue(&["origin.test"]);
    let old = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("TLS 1.2")
        .with_no_client_auth()
        .with_single_cert(identity.chain(), identity.key());
    let origin = Origin::serve_tls(old.expect("a key").into(), origin::saying("secret"));
    for (versions, is_served) in [("[\"1.2\"]", true), ("[\"1.3\"]", false), ("[]", true)] {
        let site = Site::new();
        authority.save(site.path(), "ca");
        let tls = format!("{{ ca: ca.pem, server_name: origin.test, versions: {versions} }}");
        let response = towards(site, &origin, &tls).get("a.test", "/");
        match is_served {
            true => assert_eq!(response.text(), "secret", "{versions}"),
            false => assert_refused(&response, 502, "upstream_tls_failed", versions),
        }
    }
}
