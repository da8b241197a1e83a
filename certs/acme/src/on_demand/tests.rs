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
    on_demand.refuse_for("a.shop.test", Duration::ZERO);
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
        on_demand.refuse_for(&format!("{number}.shop.test"), Duration::ZERO);
    }
    assert_eq!(on_demand.wishes().refused.len(), REFUSED_MAX);
    assert!(wishes.into_iter().all(is_settled));
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_tried_for_long_is_not_wished_for_until_then() {
    let on_demand = on_demand();
    on_demand.refuse_for("a.shop.test", REFUSED_FOR * 12);
    let early = Denial::TooEarly {
        after: REFUSED_FOR * 12,
    };
    assert_eq!(early.lasts(), REFUSED_FOR * 12);
    tokio::time::advance(REFUSED_FOR * 11).await;
    assert!(on_demand.wish("a.shop.test").is_none());
    tokio::time::advance(REFUSED_FOR).await;
    assert!(on_demand.wish("a.shop.test").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_service_is_asked_so_often_and_only_while_there_may_be_orders() {
    let (counts, rule) = (Counts::default(), rule());
    for _ in 0..ASKS_MAX {
        assert_eq!(counts.ask(&rule, "http://ask.test/"), Ok(()));
    }
    let busy = counts.ask(&rule, "http://ask.test/").unwrap_err();
    assert_eq!(
        busy.to_string(),
        "http://ask.test/ was asked about 100 hosts within 10 s"
    );
    // Whoever came too late comes again soon.
    assert_eq!(busy.lasts(), ASKS_PERIOD);
    tokio::time::advance(ASKS_PERIOD).await;
    assert_eq!(counts.ask(&rule, "http://ask.test/"), Ok(()));
    for _ in 0..rule.orders_max {
        assert_eq!(counts.may_order(&rule), Ok(()));
        assert_eq!(counts.order(&rule), Ok(()));
    }
    assert_eq!(counts.may_order(&rule), Err(limited(&rule)));
}

#[tokio::test(start_paused = true)]
async fn orders_are_limited_in_time() {
    let (counts, rule) = (Counts::default(), rule());
    assert_eq!(counts.order(&rule), Ok(()));
    assert_eq!(counts.order(&rule), Ok(()));
    let limited = counts.order(&rule).unwrap_err();
    assert_eq!(
        limited.to_string(),
        "`orders_max` of `customers` are under way or were made within `orders_period`"
    );
    tokio::time::advance(rule.orders_period).await;
    assert_eq!(counts.order(&rule), Ok(()));
}
