//! An exported resource as it is stored and sent: JSON, so that hosts of two versions understand each other.
//!
//! `{"v": 1, "params": {FIELD: VALUE, …}, "sensitive": true}`. A value is a text, a truth, a number, a list of texts or a
//! map of texts, as the kind's table has it; contents that are no text are `{"base64": …}`. What a reader does not know
//! (a version, a field, a shape) is a reason to leave the whole export alone, never to guess. Must not know who may
//! export or collect what.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mgmt_resources::KindInfo;
use mgmt_resources::kind::{Params, Shape, Value};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::diagnostic::Printable;

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// What lies in the store.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    v: u32,
    params: BTreeMap<String, Json>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    sensitive: bool,
}

/// Only the version, of whatever else there may be.
#[derive(Debug, Deserialize)]
struct Version {
    v: u32,
}

/// An export as its reader understands it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its parameters.
    pub params: Params,
    /// Its contents appear nowhere.
    pub sensitive: bool,
}

/// As it is stored. The same parameters give the same bytes.
#[must_use]
pub fn encode(params: &Params, sensitive: bool) -> Vec<u8> {
    let params = params.iter().map(|(field, value)| (field.to_owned(), json(value))).collect();
    serde_json::to_vec(&Stored { v: VERSION, params, sensitive }).expect("texts, numbers, lists and maps are JSON")
}

fn json(value: &Value) -> Json {
    match value {
        Value::Text(text) => text.as_str().into(),
        Value::Bytes(bytes) => serde_json::json!({ "base64": STANDARD.encode(bytes) }),
        Value::Bool(value) => (*value).into(),
        Value::Count(count) => (*count).into(),
        Value::Seconds(seconds) => (*seconds).into(),
        Value::Texts(texts) => texts.as_slice().into(),
        Value::Map(map) => map.iter().map(|(key, value)| (key.clone(), Json::from(value.as_str()))).collect(),
    }
}

/// As a reader of this kind understands it.
///
/// # Errors
/// A fragment that reads after "left alone: ".
pub fn decode(bytes: &[u8], info: &KindInfo) -> Result<Record, String> {
    let version: Version = serde_json::from_slice(bytes).map_err(|_| "it is no export that this program knows")?;
    if version.v != VERSION {
        return Err(format!("it is of version {}, and this program knows {VERSION}", version.v));
    }
    let stored: Stored = serde_json::from_slice(bytes).map_err(|error| {
        let error = error.to_string();
        format!("this program does not understand it: {}", Printable(&error))
    })?;
    let mut params = Params::default();
    for (name, value) in &stored.params {
        let Some(field) = info.fields.iter().find(|field| field.name == name) else {
            return Err(format!("it has the field '{}', which this program does not know", Printable(name)));
        };
        // Only contents may be bytes: of anything else a kind takes text.
        let is_bytes = info.name == "file" && field.name == "content" && value.is_object();
        match if is_bytes { contents(value) } else { typed(value, field.shape) } {
            Some(value) => params.set(field.name, value),
            None => return Err(format!("its field '{name}' has a value that this program does not understand")),
        }
    }
    Ok(Record { params, sensitive: stored.sensitive })
}

/// Contents that are no text.
fn contents(value: &Json) -> Option<Value> {
    let map = value.as_object().filter(|map| map.len() == 1)?;
    STANDARD.decode(map.get("base64")?.as_str()?).ok().map(Value::Bytes)
}

/// The value, if it has the shape that the table asks for.
fn typed(value: &Json, shape: Shape) -> Option<Value> {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    Some(match shape {
        Shape::Text => Value::Text(text(value)?),
        // Exporters write absolute paths: relative to what would they be here?
        Shape::Path => Value::Text(text(value).filter(|path| path.is_empty() || path.starts_with('/'))?),
        Shape::Choice(words) => Value::Text(text(value).filter(|word| words.contains(&word.as_str()))?),
        Shape::Bool => Value::Bool(value.as_bool()?),
        Shape::Count => Value::Count(value.as_u64()?),
        Shape::Seconds => Value::Seconds(value.as_f64().filter(|seconds| seconds.is_finite() && *seconds >= 0.0)?),
        Shape::Texts => Value::Texts(value.as_array()?.iter().map(text).collect::<Option<_>>()?),
        Shape::Paths => {
            let paths: Vec<String> = value.as_array()?.iter().map(text).collect::<Option<_>>()?;
            Value::Texts(Some(paths).filter(|paths| paths.iter().all(|path| path.starts_with('/')))?)
        }
        Shape::Map => {
            let pairs = value.as_object()?.iter().map(|(key, value)| Some((key.clone(), text(value)?)));
            Value::Map(pairs.collect::<Option<_>>()?)
        }
        Shape::Ignored => return None,
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use mgmt_resources::KINDS;

    use super::*;

    fn kind(name: &str) -> &'static KindInfo {
        KINDS.iter().find(|info| info.name == name).copied().unwrap()
    }

    #[test]
    fn what_is_stored_is_read() {
        let mut params = Params::default();
        params.set("path", Value::Text("/tmp/a".into()));
        params.set("content", Value::Text("größe\n".into()));
        params.set("mode", Value::Text("0640".into()));
        params.set("force", Value::Bool(true));
        params.set("fragments", Value::Texts(vec!["/a".into(), "/b".into()]));
        let bytes = encode(&params, true);
        expect![[r#"{"v":1,"params":{"content":"größe\n","force":true,"fragments":["/a","/b"],"mode":"0640","path":"/tmp/a"},"sensitive":true}"#]]
            .assert_eq(std::str::from_utf8(&bytes).unwrap());
        assert_eq!(decode(&bytes, kind("file")), Ok(Record { params, sensitive: true }));
        let mut params = Params::default();
        params.set("cmd", Value::Text("true".into()));
        params.set("timeout", Value::Seconds(1.5));
        params.set("env", Value::Map([("A".to_owned(), "b".to_owned())].into()));
        let bytes = encode(&params, false);
        assert_eq!(decode(&bytes, kind("exec")), Ok(Record { params, sensitive: false }));
        let mut params = Params::default();
        params.set("content", Value::Bytes(vec![0, 255, 7]));
        assert_eq!(decode(&encode(&params, false), kind("file")).unwrap().params, params);
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        let why = |text: &str| decode(text.as_bytes(), kind("file")).unwrap_err();
        let shown: Vec<_> = [
            "",
            "[]",
            r#"{"v":2,"all":"new"}"#,
            r#"{"v":1,"params":{},"more":1}"#,
            r#"{"v":1,"params":{"immutable":true}}"#,
            r#"{"v":1,"params":{"content":7}}"#,
            r#"{"v":1,"params":{"content":{"base64":"%"}}}"#,
            r#"{"v":1,"params":{"path":"etc/passwd"}}"#,
            r#"{"v":1,"params":{"state":"gone"}}"#,
            r#"{"v":1,"params":{"owner":{"base64":""}}}"#,
        ]
        .map(why)
        .to_vec();
        expect![[r#"
            it is no export that this program knows
            it is no export that this program knows
            it is of version 2, and this program knows 1
            this program does not understand it: unknown field `more`, expected one of `v`, `params`, `sensitive` at line 1 column 25
            it has the field 'immutable', which this program does not know
            its field 'content' has a value that this program does not understand
            its field 'content' has a value that this program does not understand
            its field 'path' has a value that this program does not understand
            its field 'state' has a value that this program does not understand
            its field 'owner' has a value that this program does not understand
        "#]]
        .assert_eq(&(shown.join("\n") + "\n"));
        // As deep as a hostile host likes: the parser has its own bound.
        let deep = format!(r#"{{"v":1,"params":{{"content":{}1{}}}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(decode(deep.as_bytes(), kind("file")).is_err());
    }
}
