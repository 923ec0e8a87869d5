//! Requests that want to break extraction: paths, queries, headers, tokens and bodies that were once right.
//!
//! Whatever comes, nothing panics, the same bytes give the same facts, every number is a number, and the prediction made of
//! them can be used. `PROPTEST_CASES=100000 cargo test --release -p foretide-routing --test hostile_requests` runs it for
//! longer.

#[expect(dead_code, reason = "only its settings are needed here")]
mod fixture;

use foretide_predictor::cost::estimator::predict;
use foretide_predictor::cost::query::{ABSENT, CostQuery};
use foretide_predictor::cost::table::KeyTable;
use foretide_predictor::time::Timestamp;
use foretide_routing::extract::CompiledRoutes;
use foretide_routing::extract::head::PlainHead;
use foretide_routing::settings::*;
use proptest::prelude::*;

const TARGETS: [&str; 5] = [
    "/users/17/orders?rows=250&q=blue%20shoe&from=2024-01-01",
    "/users/%F0%9F%91%9F/orders?rows=1e9&rows=7&q=a+b&&=&rows",
    "/files/a/b/c/../d%2Fe?x[]=1;y=2#no",
    "/users//orders/?rows=%31%30",
    "/",
];
const TOKENS: [&str; 3] = [
    "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsInRpZXIiOjMsImEiOlt7ImIiOiJ9In1dfQ.",
    "bearer e30.eyJzdWIiOiJhbGkifQ==.x",
    "Basic YTpi",
];
const BODIES: [&str; 4] = [
    r#"{"prompt":"tell me","limits":{"tokens":512,"depth":[1,2,{"x":3}]},"model":"large","stream":true}"#,
    r#"{"limits":{"tokens":1e308},"limits":{"tokens":"7"},"prompt":"\u00e9\ud83d\ude00\"","model":null}"#,
    r#"[[[[{"prompt":[[["deep"]]]}]]]]"#,
    r#"{"limits":{"tokens":-0.0000000000000000000000000000000000001},"model":{"a":{"b":{"c":{}}}}}"#,
];

fn parameter(source: ParameterSource, kind: ParameterKind) -> ParameterRule {
    ParameterRule { name: String::new(), source, kind }
}

/// A route that reads everything, before one that takes what is left.
fn routes() -> CompiledRoutes {
    use ParameterKind::{Category, Number};
    use ParameterSource::*;
    let text = |text: &str| text.to_owned();
    let everything = RouteSettings {
        name: text("users"),
        matches: RouteMatch { path_template: Some(text("/users/{id}/orders")), ..RouteMatch::default() },
        pool: text("web"),
        consumer: vec![
            ConsumerSource::UnverifiedJwtClaim(text("sub")),
            ConsumerSource::ApiKey(text("x-key")),
            ConsumerSource::ClientPrefix { v4_bits: 24, v6_bits: 48 },
        ],
        parameters: vec![
            parameter(PathCapture(text("id")), Number),
            parameter(PathCapture(text("id")), Category),
            parameter(Query(text("rows")), Number),
            parameter(Query(text("q")), Category),
            parameter(Header(text("x-size")), Number),
            parameter(ContentLength, Number),
            parameter(ContentType, Category),
            parameter(JsonField(text("/limits/tokens")), Number),
            parameter(JsonField(text("/limits/depth/2/x")), Number),
            parameter(JsonField(text("/prompt")), Number),
            parameter(JsonField(text("/model")), Category),
        ],
        body_limit_bytes: 4_096,
        request_timeout: None,
        level: ServiceLevel::default(),
    };
    let rest = RouteSettings {
        name: text("rest"),
        matches: RouteMatch::default(),
        parameters: vec![parameter(PathSegment(1), Category), parameter(Method, Category)],
        ..everything.clone()
    };
    let mut settings = fixture::settings(Policy::Predictive);
    settings.pools[0].name = text("web");
    settings.routes = vec![everything, rest];
    CompiledRoutes::compile(&settings)
}

/// A text of the list, cut, doubled, spliced and overwritten; sometimes whole.
fn mutated(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let odd = prop_oneof![any::<u8>(), prop::sample::select(b"/?&=%#+;,.:{}[]\"\\ \0\xff\x80eE-0".to_vec()),];
    let edit = (any::<prop::sample::Index>(), odd, 0..6u8);
    (prop::sample::select(texts), prop::collection::vec(edit, 0..10)).prop_map(|(text, edits)| {
        let mut bytes = text.as_bytes().to_vec();
        for (at, byte, what) in edits {
            let at = at.index(bytes.len() + 1);
            match what {
                0 => bytes.truncate(at),
                1 => bytes.extend_from_within(at..),
                2 => bytes.splice(at..at, [byte; 300]).for_each(drop),
                3 => bytes.insert(at, byte),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|old| *old = byte),
            }
        }
        bytes
    })
}

fn usable(query: &CostQuery) -> Result<(), TestCaseError> {
    prop_assert!(query.numbers.iter().all(|&n| n == ABSENT || (n.is_finite() && n >= 0.0)), "{query:?}");
    let estimate = predict(&KeyTable::new(64), None, query, Timestamp::ZERO).estimate.work_us;
    prop_assert!(estimate.mean().is_finite() && estimate.mean() > 0.0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_request_does_harm(
        target in mutated(&TARGETS),
        token in mutated(&TOKENS),
        key in prop::collection::vec(any::<u8>(), 0..40),
        size in mutated(&["123456", "1e999", "-7", "NaN", "0x10", "١٢"]),
        body in mutated(&BODIES),
        client in any::<Option<std::net::IpAddr>>(),
    ) {
        let routes = routes();
        let target = String::from_utf8_lossy(&target);
        let mut head = PlainHead::new("POST", &target)
            .with_header("authorization", &token)
            .with_header("x-key", &key)
            .with_header("x-size", &size)
            .with_header("content-length", &size)
            .with_header("content-type", &token);
        head.client = client;
        let Some(mut facts) = routes.extract(&head) else { return Ok(()) };
        prop_assert_eq!(routes.extract(&head), Some(facts), "the same bytes are the same request");
        usable(&facts.query)?;
        routes.read_body(&mut facts, &body);
        let mut again = routes.extract(&head).expect("as before");
        routes.read_body(&mut again, &body);
        prop_assert_eq!(again, facts);
        usable(&facts.query)?;
    }
}

#[test]
fn the_untouched_requests_are_read() {
    let routes = routes();
    let head = PlainHead::new("POST", TARGETS[0]).with_header("authorization", TOKENS[0].as_bytes());
    let mut facts = routes.extract(&head).expect("a route");
    assert!(facts.consumer_named);
    assert_eq!(facts.query.numbers[..2], [17.0, 250.0]);
    routes.read_body(&mut facts, BODIES[0].as_bytes());
    assert_eq!(facts.query.numbers[4..7], [512.0, 3.0, 7.0], "tokens, depth, length of the prompt");
}
