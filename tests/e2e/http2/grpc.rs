//! gRPC by its usual implementation on both sides: calls of every kind pass, and what the gateway has
//! to say by itself is said in words that a client of gRPC understands.

use std::io::pipe;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::thread;

use cardea_tests::Gateway;
use cardea_tests::certificate::Authority;
use cardea_tests::gateway::Site;
use cardea_tests::process::{Process, run, run_on};
use cardea_tests::tool::python_with_grpc;

/// A script that is a server and a client of a service.
#[derive(Clone, Copy)]
struct Script {
    path: &'static str,
    service: &'static str,
}

const CALLS: Script = Script {
    path: concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/strangers/calls.py"),
    service: "test.Calls",
};

const INTEROP: Script = Script {
    path: concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/strangers/interop.py"),
    service: "grpc.testing.TestService",
};

/// The configuration with a server of TLS.
fn over_tls() -> String {
    CONFIG.replace(
        "protocol: http2",
        "tls: { ca: authority.pem, server_name: a.test }",
    )
}

/// A gateway in front of a server of gRPC: the listener `web` without TLS, `secure` with it.
pub(super) struct Calls {
    script: Script,
    pub(super) server: Process,
    address: SocketAddr,
    pub(super) gateway: Gateway,
    ca: String,
}

const CONFIG: &str = r#"
listeners:
  - { name: web, bind: ["127.0.0.1:0"] }
  - { name: secure, bind: ["127.0.0.1:0"], tls: {} }
certificates:
  - { name: main, chain: main.pem, key: main.key, default: true }
upstreams:
  calls: { endpoints: ["<calls>"], protocol: http2 }
domains:
  - hosts: [a.test, "127.0.0.1"]
    routes:
"#;

/// A script's server of the service that these arguments name; with a chain and a key it is one of TLS.
fn serve(script: Script, arguments: &[&str]) -> (Process, SocketAddr) {
    let arguments = [&[script.path, "serve"], arguments].concat();
    let server = Process::start(&mut python_with_grpc(&arguments));
    let port = server.stdout.wait_for("its port", |text| {
        text.strip_prefix("port ")?.trim().parse::<u16>().ok()
    });
    (server, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

impl Calls {
    /// With these routes.
    pub(super) fn start(routes: &str) -> Self {
        Self::with(CALLS, CONFIG, routes)
    }

    /// As `start`, with a server of TLS.
    pub(super) fn start_secure(routes: &str) -> Self {
        Self::with(CALLS, &over_tls(), routes)
    }

    fn with(script: Script, config: &str, routes: &str) -> Self {
        let site = Site::new();
        let authority = Authority::new("clients trust this");
        authority.issue(&["a.test"]).save(site.path(), "main");
        let ca = authority.save(site.path(), "authority");
        let [chain, key] = ["main.pem", "main.key"].map(|name| site.path().join(name));
        let [chain, key] = [&chain, &key].map(|path| path.to_str().expect("a plain path"));
        let (server, address) = match config.contains("server_name") {
            true => serve(script, &[script.service, chain, key]),
            false => serve(script, &[script.service]),
        };
        let gateway = site.start(&format!("{config}{routes}"), &[("calls", &address)]);
        Self {
            script,
            server,
            address,
            gateway,
            ca: ca.display().to_string(),
        }
    }

    fn target(&self, listener: &str) -> (String, String) {
        let certificate = if listener == "secure" { &self.ca } else { "-" };
        let address = self.gateway.listener(listener).to_string();
        (address, certificate.to_owned())
    }

    /// What a client gets out of a scenario.
    #[track_caller]
    fn call(&self, listener: &str, scenario: &str) -> String {
        let (address, certificate) = self.target(listener);
        let arguments = [self.script.path, "call", &address, &certificate, scenario];
        let finished = run(&mut python_with_grpc(&arguments));
        assert_eq!(finished.code, Some(0), "{scenario}: {}", finished.stderr);
        finished.stdout
    }

    #[track_caller]
    fn check(&self, scenario: &str, expected: &str) {
        for listener in ["web", "secure"] {
            assert_eq!(
                self.call(listener, scenario),
                expected,
                "{scenario} on {listener}"
            );
        }
    }
}

const TO_CALLS: &str = "      - { to: calls }\n";

#[test]
fn calls_of_every_kind_pass() {
    let calls = Calls::start(TO_CALLS);
    calls.check("unary", "b'hello' key last b'\\x00\\xff'\n");
    calls.check("collect", "2890\n");
    calls.check("stream", "1000 b'999'\n");
    calls.check("converse", "b'ONE'\nb'TWO'\nb'THREE'\n");
    calls.check("large", "True\n");
}

/// The cases of gRPC's own interoperability tests.
#[test]
fn the_interoperability_cases_pass() {
    const CASES: [&str; 18] = [
        "empty_unary",
        "large_unary",
        "client_compressed_unary",
        "server_compressed_unary",
        "client_streaming",
        "client_compressed_streaming",
        "server_streaming",
        "server_compressed_streaming",
        "ping_pong",
        "empty_stream",
        "custom_metadata",
        "status_code_and_message",
        "special_status_message",
        "unimplemented_method",
        "unimplemented_service",
        "cancel_after_begin",
        "cancel_after_first_response",
        "timeout_on_sleeping_server",
    ];
    for config in [CONFIG, &over_tls()] {
        let calls = Calls::with(INTEROP, config, TO_CALLS);
        for listener in ["web", "secure"] {
            let passed = calls.call(listener, "all");
            assert_eq!(passed.lines().collect::<Vec<_>>(), CASES, "{listener}");
        }
    }
}

#[test]
fn a_status_arrives_with_its_message_and_trailers() {
    let calls = Calls::start(TO_CALLS);
    calls.check("fail", "FAILED_PRECONDITION 'not so: 50 % \\xfc' failed\n");
}

#[test]
fn a_deadline_ends_the_call_at_the_server_too() {
    let calls = Calls::start(TO_CALLS);
    calls.check("deadline", "DEADLINE_EXCEEDED\nTrue\n");
    calls.server.stdout.wait_for("both calls to end", |text| {
        (text.matches("cancelled").count() == 2).then_some(())
    });
}

#[test]
fn a_cancelled_call_ends_at_the_server() {
    let calls = Calls::start(TO_CALLS);
    let (address, certificate) = calls.target("web");
    let (reader, writer) = pipe().expect("a pipe");
    let calling = thread::spawn(move || {
        let arguments = [CALLS.path, "call", &address, &certificate, "cancel"];
        run_on(&mut python_with_grpc(&arguments), Stdio::from(reader))
    });
    calls.server.stdout.wait_for_line("hanging");
    drop(writer);
    calls.server.stdout.wait_for_line("cancelled");
    let finished = calling.join().expect("the client runs");
    assert_eq!(finished.stdout, "given up True\n", "{}", finished.stderr);
}

#[test]
fn what_the_gateway_answers_is_understood() {
    let nowhere = Calls::start("      - { match: [{ path: { exact: /other } }], to: calls }\n");
    let told = nowhere.call("web", "twice");
    assert_eq!(told.matches("UNIMPLEMENTED").count(), 2, "{told}");
    let limited =
        Calls::start("      - { policies: { rate_limit: { rate: 1, per: 1h } }, to: calls }\n");
    let told = limited.call("secure", "twice");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "OK", "{told}");
    assert!(lines[1].contains("UNAVAILABLE"), "{told}");
    let denied =
        Calls::start("      - { policies: { ip_access: { deny: [127.0.0.0/8] } }, to: calls }\n");
    let told = denied.call("web", "twice");
    assert_eq!(told.matches("PERMISSION_DENIED").count(), 2, "{told}");
    let mut down = Calls::start(TO_CALLS);
    down.server.signal(rustix::process::Signal::KILL);
    down.server.wait();
    assert!(std::net::TcpStream::connect(down.address).is_err());
    let told = down.call("web", "twice");
    assert_eq!(told.matches("UNAVAILABLE").count(), 2, "{told}");
}

#[test]
fn a_deadline_that_the_gateway_keeps_alone() {
    // A client that says how long it waits, and then forgets about it.
    let calls = Calls::start(TO_CALLS);
    let mut client = super::client(&calls.gateway);
    let mut fields = cardea_tests::http2::request("POST", "a.test", "/test.Calls/Hang");
    fields.extend([
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", "300m"),
    ]);
    let stream = client.open(&fields, false);
    client.send_body(stream, &[0; 5], true);
    let response = client.response(stream);
    let status = response
        .field("grpc-status")
        .or(response.trailers.get("grpc-status"));
    assert_eq!((response.status, status), (200, Some("4")), "{response:?}");
}

#[test]
fn services_go_to_servers_of_their_own() {
    let (_other_server, other) = serve(CALLS, &["test.Others"]);
    let others = format!("upstreams:\n  others: {{ endpoints: [\"{other}\"], protocol: http2 }}\n");
    let config = CONFIG.replace("upstreams:\n", &others);
    let routes = "      - { match: [{ grpc: { service: test.Calls } }], to: calls }\n\
        \x20     - { match: [{ grpc: { service: test.Others, method: Unary } }], to: others }\n\
        \x20     - { match: [{ path: { prefix: / }, methods: [POST] }], policies: { respond: { status: 403 } } }\n";
    let calls = Calls::with(CALLS, &config, routes);
    let refused = "PERMISSION_DENIED The route answers by itself.";
    let expected = format!(
        "test.Calls/Unary OK\n\
        test.Others/Unary OK\n\
        test.Others/Fail {refused}\n\
        test.Other/Unary {refused}\n"
    );
    for listener in ["web", "secure"] {
        let told = calls.call(listener, "services");
        assert_eq!(told, expected, "{listener}");
    }
    // The same paths are something else when it is no call that asks for them.
    let mut client = super::client(&calls.gateway);
    let mut fields = cardea_tests::http2::request("POST", "a.test", "/test.Calls/Unary");
    fields.push(("content-type", "application/json"));
    let stream = client.open(&fields, true);
    assert_eq!(client.response(stream).status, 403);
}
