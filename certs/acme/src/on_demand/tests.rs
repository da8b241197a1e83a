use super::*;

fn rule() -> Rule {
    Rule {
        name: "customers".into(),
        allow: vec!["*.shop.test".to_owned(), "one.test".to_owned()],
        ask: None,
        certificates_max: 10,
        orders_max: 2,
        orders_period: Duration::from_secs(60),
        issuers: Vec::new(),
    }
}

fn on_demand() -> OnDemand {
    let on_demand = OnDemand::default();
    on_demand.configure(&[rule()]);
    on_demand
}

fn is_settled(wish: Wish) -> bool {
    let mut settled = std::pin::pin!(wish.settled());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    settled.as_mut().poll(&mut cx).is_ready()
}

#[test]
fn only_what_a_rule_allows_can_be_wished_for() {
    let on_demand = on_demand();
    for host in ["a.shop.test", "A.B.Shop.Test.", "one.test"] {
        assert!(on_demand.wish(host).is_some(), "{host}");
    }
    for host in [
        "shop.test",
        ".shop.test",
        "two.test",
        "xshop.test",
        "a.shop.test.evil",
        "",
    ] {
        assert!(on_demand.wish(host).is_none(), "{host}");
    }
    assert!(OnDemand::default().wish("a.shop.test").is_none());
}

#[test]
fn a_service_may_decide_about_all_hosts() {
    let asked = Rule {
        allow: Vec::new(),
        ask: Some("http://127.0.0.1/".to_owned()),
        ..rule()
    };
    assert!(asked.allows("any.test") && !asked.allows(""));
    let nobody = Rule { ask: None, ..asked };
    assert!(!nobody.allows("any.test"));
}

#[test]
fn all_who_wish_for_a_host_wait_for_one_certificate() {
    let on_demand = on_demand();
    let first = on_demand.wish("a.shop.test").unwrap();
    let second = on_demand.wish("a.shop.test").unwrap();
    let other = on_demand.wish("b.shop.test").unwrap();
    assert_eq!(on_demand.wishes().new.len(), 2);
    on_demand.settle(|host| host == "a.shop.test");
    assert!(is_settled(first) && is_settled(second) && !is_settled(other));
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_is_not_wished_for_again_at_once() {
    let on_demand = on_demand();
    let wish = on_demand.wish("a.shop.test").unwrap();
    on_demand.refuse("a.shop.test");
    assert!(is_settled(wish));
    assert!(on_demand.wish("a.shop.test").is_none());
    tokio::time::advance(REFUSED_FOR).await;
    assert!(on_demand.wish("a.shop.test").is_some());
}

#[test]
fn wishes_and_refusals_are_bounded() {
    let on_demand = on_demand();
    let wishes: Vec<_> = (0..WISHES_MAX)
        .map(|number| on_demand.wish(&format!("{number}.shop.test")).unwrap())
        .collect();
    assert!(on_demand.wish("more.shop.test").is_none());
    for number in 0..REFUSED_MAX + 10 {
        on_demand.refuse(&format!("{number}.shop.test"));
    }
    assert_eq!(on_demand.wishes().refused.len(), REFUSED_MAX);
    assert!(wishes.into_iter().all(is_settled));
}

#[tokio::test(start_paused = true)]
async fn orders_are_limited_in_time() {
    let (made, rule) = (Made::default(), rule());
    assert_eq!(made.count(&rule), Ok(()));
    assert_eq!(made.count(&rule), Ok(()));
    let limited = made.count(&rule).unwrap_err();
    assert_eq!(
        limited.to_string(),
        "`orders_max` of `customers` are under way or were made within `orders_period`"
    );
    tokio::time::advance(rule.orders_period).await;
    assert_eq!(made.count(&rule), Ok(()));
}
