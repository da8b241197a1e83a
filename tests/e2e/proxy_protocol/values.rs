//! What a proxy says besides addresses, in fields of requests: of its clients and of nobody else.

use cardea_tests::proxy_header::{tlv, v2};
use cardea_tests::{Client, Gateway, Origin};

use super::{V1, gateway, introduced};
use crate::fixture::get;

const SETTINGS: &str = "{ from: [127.0.0.1], mode: optional, request_headers: { \
    X-Authority: authority, x-vpce: aws_vpc_endpoint, x-raw: 0xEA, x-tls-client: tls_name, \
    x-link: azure_private_endpoint, x-unique: unique_id } }";

/// What the gateway in front of an origin makes of fields with these names.
fn told(origin: &Origin) -> Vec<(String, String)> {
    let request = origin.last_request();
    let ours = [
        "x-authority",
        "x-vpce",
        "x-raw",
        "x-tls-client",
        "x-link",
        "x-unique",
    ];
    let fields = request.fields.0.iter();
    let fields = fields.filter(|(name, _)| ours.contains(&name.to_ascii_lowercase().as_str()));
    let mut fields: Vec<_> = fields
        .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
        .collect();
    fields.sort();
    fields
}

fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    let fields = fields.iter();
    fields
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn values(name_is_verified: bool) -> Vec<u8> {
    let name = tlv(0x22, b"Jo, of c");
    let verify = u8::from(!name_is_verified);
    [
        tlv(0x02, b"shop.test"),
        tlv(0xea, b"\x01vpce-1"),
        tlv(0x20, &[&[7, 0, 0, 0, verify][..], &name].concat()),
        tlv(0xee, b"\x01\x05\0\0\0"),
        tlv(0x05, b"line\r\nx-forged: 1"),
    ]
    .concat()
}

fn from(gateway: &Gateway, values: &[u8]) -> Client {
    introduced(gateway, v2("192.0.2.1:4000", "198.51.100.1:443", values))
}

#[test]
fn what_a_proxy_says_is_in_fields_of_requests() {
    let (gateway, origin, _) = gateway(SETTINGS, "");
    let mut client = from(&gateway, &values(true));
    let expected = [
        ("x-authority", "shop.test"),
        ("x-link", "5"),
        ("x-tls-client", "Jo, of c"),
        ("x-vpce", "vpce-1"),
    ];
    // Bytes that a field cannot have are not told: 0x01 before the id, a line break.
    for path in ["/1", "/2"] {
        assert_eq!(client.get("a.test", path).status, 200);
        assert_eq!(told(&origin), pairs(&expected), "{path}");
        assert_eq!(origin.last_request().field("x-forged"), None);
    }
    // A name that was not verified is nobody's.
    let mut client = from(&gateway, &values(false));
    assert_eq!(client.get("a.test", "/").status, 200);
    let expected: Vec<_> = expected
        .into_iter()
        .filter(|it| it.0 != "x-tls-client")
        .collect();
    assert_eq!(told(&origin), pairs(&expected));
}

#[test]
fn a_client_cannot_say_it_instead() {
    let (gateway, origin, _) = gateway(SETTINGS, "");
    let forged = "X-Authority: forged\r\nx-vpce: forged\r\nX-VPCE: twice\r\nx-raw: forged\r\n\
        x-tls-client: admin\r\nx-link: 1\r\nx-unique: 1\r\nconnection: x-authority, keep-alive\r\n";
    let ask = get("a.test", "/", forged);
    // A proxy that says some of it, one that says nothing, and a peer without a header.
    let authority = tlv(0x02, b"shop.test");
    let said: [(Client, &[(&str, &str)]); 3] = [
        (from(&gateway, &authority), &[("x-authority", "shop.test")]),
        (introduced(&gateway, V1), &[]),
        (gateway.client(), &[]),
    ];
    for (mut client, expected) in said {
        client.send(&ask);
        assert_eq!(client.response().status, 200);
        assert_eq!(told(&origin), pairs(expected));
    }
}

#[test]
fn peers_that_are_no_proxy_cannot_say_it_either() {
    let settings = SETTINGS.replace("127.0.0.1", "192.0.2.9");
    let (gateway, origin, _) = gateway(&settings, "");
    let mut client = gateway.client();
    client.send(get("a.test", "/", "x-vpce: forged\r\n"));
    assert_eq!(client.response().status, 200);
    assert_eq!(told(&origin), []);
}

#[test]
fn routes_and_the_log_go_by_it() {
    let config = r#"
access_log: { format: { template: "<{proxy_tlv:azure_private_endpoint}> <{proxy_tlv:aws_vpc_endpoint}>" } }
listeners:
  - name: web
    bind: ["127.0.0.1:0"]
    proxy_protocol: { from: [127.0.0.1], mode: optional, request_headers: { x-vpce: aws_vpc_endpoint } }
domains:
  - hosts: [a.test]
    routes:
      - match: [{ headers: [{ name: x-vpce, exact: vpce-1 }] }]
        policies: { respond: { status: 200, body: inside } }
      - policies: { respond: { status: 403 } }
"#;
    let gateway = Gateway::start(config, &[]);
    let inside = from(&gateway, &values(true)).get("a.test", "/");
    assert_eq!((inside.status, inside.text()), (200, "inside".to_owned()));
    gateway.stdout.wait_for_line("<5> <vpce-1>");
    let mut client = gateway.client();
    client.send(get("a.test", "/", "x-vpce: vpce-1\r\n"));
    assert_eq!(client.response().status, 403);
    gateway.stdout.wait_for_line("<-> <->");
}
