use super::*;

#[test]
fn an_answer_tells_whether_to_try_again() {
    let failed = |code: u16, field: &str| {
        let status =
            json!({"code": code, "message": "", "reason": "", "details": {"causes": [{"reason": "", "message": "", "field": field}]}});
        let status = serde_json::from_value(status).unwrap();
        let source = RequestError::new(kube::Error::Api(Box::new(status)));
        WriteError::Failed { action: "write", object: ObjectRef::default(), source }
    };
    let cases = [
        (400, "", true, false),
        (403, "", true, false),
        (404, "", false, true),
        (409, "", false, false),
        (422, "status", true, false),
        (422, "metadata.uid", true, true),
        (429, "", false, false),
        (500, "", false, false),
    ];
    for (code, field, lasting, gone) in cases {
        let is_gone = matches!(gone_is_fine::<()>(Err(failed(code, field))), Ok(Written::Gone));
        assert_eq!((failed(code, field).is_lasting(), is_gone), (lasting, gone), "{code} {field}");
    }
}
