//! `timeouts`: the most specific level wins, field by field. What each deadline does is told in
//! `deadlines`.

use cardea_tests::{Origin, origin};

use super::levels;
use crate::fixture::assert_refused;

#[test]
fn the_most_specific_level_wins_field_by_field() {
    let origin = Origin::serve(origin::silent);
    let gateway = levels(
        &origin,
        "{ timeouts: { request: 300ms, upstream_head: 100ms } }",
        "{ timeouts: { upstream_head: 20s } }",
        "{ timeouts: { request: 0s, upstream_head: 150ms } }",
    );
    // Nothing set at the domain's level but the head; the gateway's request deadline stays.
    assert_refused(
        &gateway.get("a.test", "/"),
        504,
        "request_timeout",
        "the domain",
    );
    assert_refused(
        &gateway.get("b.test", "/"),
        504,
        "upstream_head_timeout",
        "the gateway",
    );
    assert_refused(
        &gateway.get("a.test", "/route"),
        504,
        "upstream_head_timeout",
        "the route",
    );
}
