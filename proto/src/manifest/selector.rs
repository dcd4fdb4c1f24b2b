//! LabelSelector → the domain's, with MetalLB's messages on duplicates (MetalLB behaviour 2.5).

use std::collections::BTreeSet;

use crate::types::labels::{LabelSelector, Operator, Requirement, check_key, check_value};

use super::fields::{Errors, Field};

/// Reads one selector; `what` words the messages.
pub(super) fn selector(field: &Field<'_>, what: &What<'_>, errors: &mut Errors) -> LabelSelector {
    let field = field.clone().object(errors);
    let match_labels = field.get("matchLabels").texts(errors);
    for (key, value) in &match_labels {
        let at = field.get("matchLabels").get(key);
        check_label(&at, key, std::iter::once((&at, value.as_str())), what, errors);
    }
    let mut requirements = Vec::new();
    for item in field.get("matchExpressions").items(errors) {
        let Some(requirement) = requirement(&item, what, errors) else { continue };
        if requirements.contains(&requirement) {
            errors.at(&item, what.say(format_args!("duplicate definition of match expressions {:?}", item.json())));
        }
        requirements.push(requirement);
    }
    LabelSelector { match_labels, requirements }
}

/// Reads a list of selectors in which none may stand twice.
pub(super) fn selectors(parent: &Field<'_>, key: &str, what: &What<'_>, errors: &mut Errors) -> Vec<LabelSelector> {
    let mut selectors: Vec<LabelSelector> = Vec::new();
    for item in parent.get(key).items(errors) {
        let selector = selector(&item, what, errors);
        if selectors.contains(&selector) {
            errors.at(&item, what.say(format_args!("duplicate definition of {key} {:?}", selector.to_string())));
        }
        selectors.push(selector);
    }
    selectors
}

/// Who a selector belongs to, for messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct What<'a> {
    /// What every message begins with.
    pub(super) prefix: &'a str,
    /// What a message on a malformed selector begins with.
    pub(super) invalid: &'a str,
    /// What a message on a malformed selector ends with.
    pub(super) failed: &'a str,
}

impl What<'_> {
    fn say(&self, message: std::fmt::Arguments<'_>) -> String {
        format!("{}{message}", self.prefix)
    }

    fn malformed(&self, message: &str) -> String {
        format!("{}{}{message}{}", self.prefix, self.invalid, self.failed)
    }
}

/// Reports what is wrong with a label's key and values, in the words of Kubernetes' selector parser.
fn check_label<'a>(
    key_field: &Field<'_>,
    key: &str,
    values: impl Iterator<Item = (&'a Field<'a>, &'a str)>,
    what: &What<'_>,
    errors: &mut Errors,
) {
    if let Err(error) = check_key(key) {
        errors.at(key_field, what.malformed(&format!("key: Invalid value: {key:?}: {error}")));
    }
    for (index, (field, value)) in values.enumerate() {
        if let Err(error) = check_value(value) {
            errors.at(field, what.malformed(&format!("values[{index}][{key}]: Invalid value: {value:?}: {error}")));
        }
    }
}

fn requirement(item: &Field<'_>, what: &What<'_>, errors: &mut Errors) -> Option<Requirement> {
    let key_field = item.get("key");
    let key = if key_field.is_present() { key_field.text(errors)? } else { "" };
    let mut values = BTreeSet::new();
    let fields = item.get("values").items(errors);
    let texts: Vec<(&Field<'_>, &str)> = fields.iter().filter_map(|value| Some((value, value.text(errors)?))).collect();
    check_label(&key_field, key, texts.iter().copied(), what, errors);
    for (value, text) in texts {
        if !values.insert(text.to_owned()) {
            errors.at(value, what.say(format_args!("duplicate definition of match expression value in label selector {text:?}")));
        }
    }
    let field = item.get("operator");
    let operator = match field.required_text(errors)? {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => {
            errors.at(&field, what.malformed(&format!("{other:?} is not a valid label selector operator")));
            return None;
        }
    };
    match operator {
        Operator::In | Operator::NotIn if values.is_empty() => {
            errors.at(item, what.malformed("for 'in', 'notin' operators, values set can't be empty"));
        }
        Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
            errors.at(item, what.malformed("values set must be empty for exists and does not exist"));
        }
        Operator::In | Operator::NotIn | Operator::Exists | Operator::DoesNotExist => {}
    }
    Some(Requirement { key: key.to_owned(), operator, values })
}
