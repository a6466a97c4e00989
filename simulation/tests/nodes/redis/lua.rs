//! Runs the scripts as Redis does: they are the production's own, in the same Lua.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use mlua::{Function, Lua, LuaString, MultiValue, Table, Value};
use sha1::{Digest as _, Sha1};

use super::reply::Reply;

/// What a script may ask of the server that runs it.
pub(crate) trait Commands {
    /// # Errors
    /// What the server says.
    fn call(&mut self, name: &str, args: &[Bytes]) -> Result<Reply, String>;
}

/// An interpreter with the scripts that it knows.
pub(crate) struct Interpreter {
    lua: Lua,
    known: BTreeMap<String, Function>,
}

impl Interpreter {
    pub(crate) fn new() -> Self {
        Self { lua: Lua::new(), known: BTreeMap::new() }
    }

    /// Makes a script known as `named`, and gives its hash; what is run may be another.
    pub(crate) fn load(&mut self, named: &[u8], run: &str) -> String {
        let sha = sha_of(named);
        if !self.known.contains_key(&sha) {
            // The line that says what it is is Redis's to read.
            let body = run.split_once('\n').expect("a script of several lines").1;
            let function = self.lua.load(body).set_name("=script").into_function();
            self.known.insert(sha.clone(), function.expect("a script compiles"));
        }
        sha
    }

    pub(crate) fn knows(&self, sha: &str) -> bool {
        self.known.contains_key(sha)
    }

    pub(crate) fn run(
        &self,
        sha: &str,
        keys: &[Bytes],
        argv: &[Bytes],
        commands: &mut dyn Commands,
    ) -> Reply {
        self.try_run(sha, keys, argv, commands).unwrap_or_else(|error| Reply::Failed(format!("ERR {error}")))
    }

    fn try_run(
        &self,
        sha: &str,
        keys: &[Bytes],
        argv: &[Bytes],
        commands: &mut dyn Commands,
    ) -> mlua::Result<Reply> {
        let globals = self.lua.globals();
        globals.set("KEYS", self.texts(keys)?)?;
        globals.set("ARGV", self.texts(argv)?)?;
        let commands = RefCell::new(commands);
        self.lua.scope(|scope| {
            let redis = self.lua.create_table()?;
            let call = scope.create_function_mut(|lua, args: MultiValue| {
                let mut args = args.into_iter().map(argument).collect::<mlua::Result<Vec<_>>>()?.into_iter();
                let name = args.next().unwrap_or_default();
                let name = String::from_utf8_lossy(&name).to_ascii_uppercase();
                let reply = commands.borrow_mut().call(&name, args.as_slice());
                to_lua(lua, reply.map_err(mlua::Error::runtime)?)
            })?;
            let error_reply = self.lua.create_function(|lua, error: LuaString| {
                let reply = lua.create_table()?;
                reply.set("err", error)?;
                Ok(reply)
            })?;
            redis.set("call", call)?;
            redis.set("error_reply", error_reply)?;
            globals.set("redis", redis)?;
            let reply: Value = self.known[sha].call(())?;
            from_lua(&reply)
        })
    }

    fn texts(&self, texts: &[Bytes]) -> mlua::Result<Table> {
        let strings = texts.iter().map(|text| self.lua.create_string(text));
        self.lua.create_sequence_from(strings.collect::<mlua::Result<Vec<_>>>()?)
    }
}

fn sha_of(script: &[u8]) -> String {
    let mut sha = String::with_capacity(40);
    for byte in Sha1::digest(script) {
        let _ = write!(sha, "{byte:02x}");
    }
    sha
}

fn argument(value: Value) -> mlua::Result<Bytes> {
    match value {
        Value::String(text) => Ok(Bytes::copy_from_slice(&text.as_bytes())),
        Value::Integer(number) => Ok(number.to_string().into()),
        Value::Number(number) => Ok(number.to_string().into()),
        other => {
            Err(mlua::Error::runtime(format!("a command takes texts and numbers, not {}", other.type_name())))
        }
    }
}

fn to_lua(lua: &Lua, reply: Reply) -> mlua::Result<Value> {
    Ok(match reply {
        Reply::Null => Value::Boolean(false),
        Reply::Number(number) => Value::Number(number as f64),
        Reply::Text(text) => Value::String(lua.create_string(&text)?),
        Reply::Status(status) => {
            let table = lua.create_table()?;
            table.set("ok", status)?;
            Value::Table(table)
        }
        Reply::Array(replies) => {
            let values =
                replies.into_iter().map(|reply| to_lua(lua, reply)).collect::<mlua::Result<Vec<_>>>()?;
            Value::Table(lua.create_sequence_from(values)?)
        }
        other => return Err(mlua::Error::runtime(format!("no reply of a command: {other:?}"))),
    })
}

fn from_lua(value: &Value) -> mlua::Result<Reply> {
    Ok(match value {
        Value::Nil | Value::Boolean(false) => Reply::Null,
        Value::Boolean(true) => Reply::Number(1),
        Value::Integer(number) => Reply::Number(*number),
        Value::Number(number) => Reply::Number(*number as i64),
        Value::String(text) => Reply::Text(Bytes::copy_from_slice(&text.as_bytes())),
        Value::Table(table) => match table.raw_get::<Option<LuaString>>("err")? {
            Some(error) => Reply::Failed(error.to_string_lossy()),
            None => {
                let values = table.sequence_values::<Value>();
                Reply::Array(values.map(|value| from_lua(&value?)).collect::<mlua::Result<_>>()?)
            }
        },
        other => return Err(mlua::Error::runtime(format!("no reply: {}", other.type_name()))),
    })
}
