//! Gateways that have nothing in common but a Redis: one orders, all answer and serve, sessions are
//! resumed; and what happens when Redis is not there, or is not ours.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cardea_tests::redis::Redis;
use rustls::HandshakeKind;

use super::*;

const CERTIFICATES: &str = "[{ name: a, acme: { hosts: [a.test] } }]";

/// What gateways share, and the secret for it.
struct Fleet {
    fixture: Fixture,
    redis: Redis,
    files: Site,
}

impl Fleet {
    fn new(redis: Redis) -> Self {
        let files = Site::new();
        secret(files.path(), "secret", "s");
        redis.save_trust(files.path());
        Self {
            fixture: Fixture::new(),
            redis,
            files,
        }
    }

    /// A gateway that the authority comes to.
    fn first(&self, certificates: &str) -> Gateway {
        let (http, tls) = (self.fixture.http, self.fixture.tls);
        self.gateway_at(http, tls, "secret", certificates)
    }

    /// Another, with its HTTPS address.
    fn other(&self, certificates: &str) -> (SocketAddr, Gateway) {
        let tls = free_address();
        let gateway = self.gateway_at(free_address(), tls, "secret", certificates);
        (tls, gateway)
    }

    fn gateway_at(
        &self,
        http: SocketAddr,
        tls: SocketAddr,
        secret: &str,
        certificates: &str,
    ) -> Gateway {
        let file = |name: &str| self.files.path().join(name).display().to_string();
        let trust = match self.files.path().join("redis-ca.pem").exists() {
            true => format!(", trust: \"{}\"", file("redis-ca.pem")),
            false => String::new(),
        };
        let redis = format!(
            "redis: {{ url: \"{}\", secret: \"{}\"{trust} }}\ntls_sessions: {{ redis: true }}",
            self.redis,
            file(secret)
        );
        let storage = "acme\n  redis: true";
        let sections = format!("{certificates}\n{redis}");
        self.fixture.gateway_at(http, tls, storage, "", &sections)
    }
}

fn secret(directory: &Path, name: &str, content: &str) {
    let path = directory.join(name);
    std::fs::write(&path, content.repeat(48)).expect("write a file");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).expect("set a mode");
}

fn one_orders_all_serve(fleet: &Fleet) {
    let Fleet { fixture, redis, .. } = fleet;
    // The authority comes to the first one; the other may well be the one that orders.
    let (tls, other) = fleet.other(CERTIFICATES);
    let first = fleet.first(CERTIFICATES);
    let served = fixture.waits_for(fixture.tls, "a.test");
    assert_eq!(fixture.waits_for(tls, "a.test"), served);
    let orders = |gateway: &Gateway| count(gateway, "certificate_ordering");
    assert_eq!(orders(&first) + orders(&other), 1);
    // One that comes later has it as well.
    let (tls, late) = fleet.other(CERTIFICATES);
    assert_eq!(fixture.waits_for(tls, "a.test"), served);
    assert_eq!(orders(&late), 0);
    for gateway in [&first, &other, &late] {
        let accounts = gateway.site().path().join("acme/accounts");
        assert_eq!(std::fs::read_dir(accounts).expect("accounts").count(), 1);
    }
    // No challenge, order or lock is left, and nothing that somebody else could use.
    wait::until_true("all locks are let go of", || {
        let keys = redis.ask(&["KEYS", "*"]);
        let mut keys: Vec<&str> = keys.lines().filter(|it| !it.contains("secret")).collect();
        keys.sort_unstable();
        keys == ["{cardea}:changes", "{cardea}:files", "{cardea}:number"]
    });
    let files = redis.ask(&["HKEYS", "{cardea}:files"]);
    let mut files: Vec<&str> = files.lines().collect();
    files.sort_unstable();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files[0].starts_with("accounts/"), "{files:?}");
    assert_eq!(files[1], "certificates/a.pem");
    let dump = redis.ask(&["HVALS", "{cardea}:files"]);
    assert!(!dump.contains("BEGIN") && !dump.contains("key"), "{dump}");
}

#[test]
fn one_gateway_orders_and_all_serve() {
    one_orders_all_serve(&Fleet::new(Redis::start()));
}

#[test]
fn redis_may_speak_tls() {
    one_orders_all_serve(&Fleet::new(Redis::start_tls()));
}

#[test]
fn nothing_is_ordered_without_redis_and_it_goes_on_when_it_comes() {
    let mut fleet = Fleet::new(Redis::absent());
    let gateway = fleet.first(CERTIFICATES);
    let line = gateway.stderr.wait_for_line("certificates_not_shared");
    assert!(line.contains("Connection refused"), "{line}");
    assert!(line.contains("whether Redis is up"), "{line}");
    let line = gateway.stderr.wait_for_line("certificate_not_issued");
    assert!(line.contains("what gateways share cannot"), "{line}");
    gateway.stderr.wait_for_line("sessions_not_shared");
    assert_eq!(count(&gateway, "certificate_ordering"), 0);
    fleet.redis.come_up();
    gateway.stderr.wait_for_line("certificates_shared_again");
    let gateway = gateway.restart();
    let served = fleet.fixture.waits_for(fleet.fixture.tls, "a.test");
    // A Redis that lost all it had gets it back.
    fleet.redis.go();
    gateway.stderr.wait_for_line("certificates_not_shared");
    fleet.redis.come_up();
    gateway.stderr.wait_for_line("certificates_shared_again");
    let (tls, late) = fleet.other(CERTIFICATES);
    assert_eq!(fleet.fixture.waits_for(tls, "a.test"), served);
    assert_eq!(count(&late, "certificate_ordering"), 0);
    // What is there is served without it.
    fleet.redis.go();
    fleet.fixture.waits_for(tls, "a.test");
}

#[test]
fn what_was_ordered_on_demand_is_shared() {
    let fleet = Fleet::new(Redis::start());
    let rule = "[{ name: w, acme: { on_demand: { allow: [\"*.w.test\"] } } }]";
    let proving = fleet.first(rule);
    let (tls, asked) = fleet.other(rule);
    let config = fleet.fixture.client();
    Client::try_connect_tls(tls, &config, "x.w.test").expect("a certificate at once");
    wait::until_true("the other one has it", || {
        let file = "acme/certificates/w%40x.w.test.pem";
        proving.site().path().join(file).exists()
    });
    Client::try_connect_tls(fleet.fixture.tls, &config, "x.w.test").expect("the same one");
    let orders = |gateway: &Gateway| count(gateway, "certificate_ordering");
    assert_eq!((orders(&asked), orders(&proving)), (1, 0));
}

#[test]
fn sessions_are_resumed_at_other_gateways() {
    let mut fleet = Fleet::new(Redis::start());
    let gateway = fleet.first(CERTIFICATES);
    fleet.fixture.waits_for(fleet.fixture.tls, "a.test");
    let (tls, _other) = fleet.other(CERTIFICATES);
    fleet.fixture.waits_for(tls, "a.test");
    let kind = |address, config: &Arc<ClientConfig>| {
        let mut client = Client::try_connect_tls(address, config, "a.test").expect("TLS");
        client.get("a.test", "/");
        client.tls().handshake_kind()
    };
    // Both agreed before they had a certificate, or will in a moment.
    let is_resumed = || {
        let config = fleet.fixture.client();
        kind(fleet.fixture.tls, &config) == Some(HandshakeKind::Full)
            && kind(tls, &config) == Some(HandshakeKind::Resumed)
    };
    wait::until_true("a session is resumed elsewhere", is_resumed);
    // What was agreed on is used on without Redis, and by a configuration that is read anew.
    fleet.redis.go();
    let text = std::fs::read_to_string(gateway.site().config_path()).expect("a configuration");
    gateway.configure(&text.replace("b.test]", "b.test, c.test]"), &[]);
    let config = fleet.fixture.client();
    assert_eq!(kind(fleet.fixture.tls, &config), Some(HandshakeKind::Full));
    assert_eq!(kind(tls, &config), Some(HandshakeKind::Resumed));
}

#[test]
fn a_gateway_with_another_secret_takes_nothing_in() {
    let fleet = Fleet::new(Redis::start());
    let _first = fleet.first(CERTIFICATES);
    fleet.fixture.waits_for(fleet.fixture.tls, "a.test");
    secret(fleet.files.path(), "other", "o");
    let stranger = fleet.gateway_at(free_address(), free_address(), "other", CERTIFICATES);
    let line = stranger.stderr.wait_for_line("certificates_not_shared");
    assert!(line.contains("sealed with another secret"), "{line}");
    assert!(line.contains("the same `redis.secret`"), "{line}");
    stranger.stderr.wait_for_line("sessions_not_shared");
    let bundle = stranger.site().path().join("acme/certificates/a.pem");
    assert!(!bundle.exists());
}

#[test]
fn what_makes_no_sense_is_told() {
    let site = Site::new();
    secret(site.path(), "secret", "s");
    secret(site.path(), "short", "");
    let check = |sections: &str, expected: &str| {
        let config = format!(
            "listeners: [{{ name: web, bind: [\"127.0.0.1:0\"] }}]\n\
             {sections}\n\
             domains: [{{ hosts: [a.test], policies: {{ respond: {{}} }} }}]\n"
        );
        site.configure(&config, &[]);
        let told = site.cardea(&["check", "--config", "cardea.yaml"]);
        assert_ne!(told.code, Some(0), "{sections}");
        assert!(told.stderr.contains(expected), "{}", told.stderr);
    };
    check(
        "tls_sessions: { redis: true }",
        "there is no `redis` section",
    );
    let redis = "redis: { url: \"redis://127.0.0.1/\", secret: secret }";
    check(
        &format!("{redis}\ntls_sessions: {{ redis: true, secrets: [secret] }}"),
        "keep one of `secrets` and `redis`",
    );
    check(&redis.replace("secret }", "short }"), "`redis.secret`");
    check(&redis.replace("secret }", "missing }"), "`redis.secret`");
    check(&redis.replace("redis://", "http://"), "for TLS");
    check(
        &redis.replace("secret }", "secret, trust: missing.pem }"),
        "`redis.trust`: cannot read",
    );
}
