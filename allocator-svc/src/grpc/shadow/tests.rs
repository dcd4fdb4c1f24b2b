use mooring_proto::status::WireRefusal;

use super::*;

/// Answers each call with its own name in the body's place: a header.
#[derive(Clone)]
struct Named(&'static str);

impl NamedService for Named {
    const NAME: &'static str = "mooring.v1.NamedService";
}

impl Service<http::Request<Body>> for Named {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: http::Request<Body>) -> Self::Future {
        let answer = http::Response::builder().header("answered-by", self.0).body(Body::empty());
        std::future::ready(Ok(answer.unwrap()))
    }
}

/// Who answered, and whether the answer says that it is a shadow's; or the refusal.
async fn answer(mut service: Shadowed<Named>, marks: &[&str]) -> Result<(String, bool), String> {
    let mut request = http::Request::new(Body::empty());
    for mark in marks {
        request.headers_mut().append(shadow::KEY, mark.parse().unwrap());
    }
    let answer = service.call(request).await.unwrap();
    if let Some(by) = answer.headers().get("answered-by") {
        return Ok((by.to_str().unwrap().to_owned(), answer.headers().get(shadow::KEY).is_some_and(|value| value == shadow::YES)));
    }
    let status = Status::from_header_map(answer.headers()).unwrap();
    Err(WireRefusal::from_status(&status).unwrap().message)
}

#[tokio::test]
async fn only_a_marked_call_reaches_the_shadow_and_an_unclear_one_reaches_nobody() {
    let (real, shadow) = (|| Ok(("real".to_owned(), false)), || Ok(("shadow".to_owned(), true)));
    let unclear = |found: &str| Err(format!("metadata mooring-shadow: \"{found}\" is neither true nor false"));
    for (marks, wanted) in [
        (&[][..], real()),
        (&["false"], real()),
        (&["true"], shadow()),
        (&["true", "true"], shadow()),
        (&["yes"], unclear("yes")),
        (&["TRUE"], unclear("TRUE")),
        (&[""], unclear("")),
        (&["false", "true"], unclear("true, false")),
        (&["true", "1"], unclear("1")),
    ] {
        assert_eq!(answer(Shadowed::new(Named("real"), Some(Named("shadow"))), marks).await, wanted, "{marks:?}");
    }
}

#[tokio::test]
async fn a_service_without_a_shadow_refuses_a_marked_call() {
    let alone = || Shadowed::new(Named("real"), None);
    assert_eq!(answer(alone(), &[]).await, Ok(("real".to_owned(), false)));
    assert_eq!(answer(alone(), &["true"]).await, Err("metadata mooring-shadow: mooring.v1.NamedService has no shadow".to_owned()));
}
