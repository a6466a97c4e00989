//! What a Redis server keeps, and the commands on it that the scripts use.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::reply::Reply;

/// Every key of a server.
#[derive(Clone, Default)]
pub(crate) struct Data(BTreeMap<Bytes, Kept>);

#[derive(Clone)]
struct Kept {
    value: Value,
    expires_at_ms: Option<u64>,
}

#[derive(Clone)]
enum Value {
    Hash(BTreeMap<Bytes, Bytes>),
    /// By score; scores are offsets.
    Sorted(BTreeSet<(u64, Bytes)>),
}

type Failed = String;
type Answer = Result<Reply, Failed>;

impl Data {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The names of keys that end so.
    pub(crate) fn keys_ending(&self, end: &str) -> Vec<Bytes> {
        self.0.keys().filter(|key| key.ends_with(end.as_bytes())).cloned().collect()
    }

    pub(crate) fn delete(&mut self, key: &[u8]) -> bool {
        self.0.remove(key).is_some()
    }

    pub(crate) fn field(&self, key: &[u8], field: &str) -> Option<&Bytes> {
        match &self.0.get(key)?.value {
            Value::Hash(hash) => hash.get(field.as_bytes()),
            Value::Sorted(_) => None,
        }
    }

    /// Every member of a sorted set, lowest first.
    pub(crate) fn members(&self, key: &[u8]) -> impl Iterator<Item = &(u64, Bytes)> {
        let set = self.0.get(key).and_then(|kept| match &kept.value {
            Value::Sorted(set) => Some(set),
            Value::Hash(_) => None,
        });
        set.into_iter().flatten()
    }

    /// Carries out one command on a key.
    pub(crate) fn command(&mut self, name: &str, args: &[Bytes], now_ms: u64) -> Answer {
        let key = args.first().ok_or("ERR wrong number of arguments")?;
        if self.0.get(key).is_some_and(|kept| kept.expires_at_ms.is_some_and(|at| at <= now_ms)) {
            self.0.remove(key);
        }
        match name {
            "DEL" => {
                let gone = args.iter().filter(|key| self.0.remove(*key).is_some()).count();
                Ok(Reply::Number(gone as i64))
            }
            "EXPIRE" => self.expire(key, now_ms + 1000 * number(args, 1)?),
            "PEXPIRE" => self.expire(key, now_ms + number(args, 1)?),
            "HGET" | "HMGET" => {
                let get = |field: &Bytes| {
                    let Some(Kept { value: Value::Hash(hash), .. }) = self.0.get(key) else {
                        return Reply::Null;
                    };
                    hash.get(field).cloned().map_or(Reply::Null, Reply::Text)
                };
                let mut values: Vec<_> = args[1..].iter().map(get).collect();
                if name == "HMGET" { Ok(Reply::Array(values)) } else { values.pop().ok_or_else(wrong) }
            }
            "HLEN" => {
                let Some(Kept { value: Value::Hash(hash), .. }) = self.0.get(key) else {
                    return Ok(Reply::Number(0));
                };
                Ok(Reply::Number(hash.len() as i64))
            }
            "HSET" => {
                let hash = self.hash(key)?;
                for pair in args[1..].chunks_exact(2) {
                    hash.insert(pair[0].clone(), pair[1].clone());
                }
                Ok(Reply::Number(0))
            }
            "ZADD" => {
                let score = number(args, 1)?;
                self.sorted(key)?.insert((score, args.get(2).ok_or_else(wrong)?.clone()));
                Ok(Reply::Number(1))
            }
            "ZCARD" => Ok(Reply::Number(self.members(key).count() as i64)),
            "ZRANGE" if args.len() == 3 => {
                let (first, last) = (number(args, 1)? as usize, number(args, 2)? as usize);
                let members = self.members(key).skip(first).take((last + 1).saturating_sub(first));
                Ok(Reply::Array(members.map(|(_, member)| Reply::Text(member.clone())).collect()))
            }
            // ZRANGE key low +inf BYSCORE LIMIT 0 count
            "ZRANGE" if args.len() == 7 && args[2] == "+inf" && args[3] == "BYSCORE" => {
                let low = match std::str::from_utf8(&args[1]).map_err(|error| error.to_string())? {
                    "-inf" => 0,
                    after => {
                        after
                            .strip_prefix('(')
                            .and_then(|after| after.parse::<u64>().ok())
                            .ok_or_else(wrong)?
                            + 1
                    }
                };
                let members = self.members(key).filter(|(score, _)| *score >= low);
                let members = members.take(number(args, 6)? as usize);
                Ok(Reply::Array(members.map(|(_, member)| Reply::Text(member.clone())).collect()))
            }
            "ZREMRANGEBYRANK" => {
                let (first, last) = (number(args, 1)?, number(args, 2)?);
                let set = self.sorted(key)?;
                for _ in first..=last {
                    set.pop_first();
                }
                Ok(Reply::Number(0))
            }
            _ => {
                Err(format!("ERR unknown command '{name}': teach simulation/tests/nodes/redis what it does"))
            }
        }
    }

    fn expire(&mut self, key: &[u8], at_ms: u64) -> Answer {
        let there = self.0.get_mut(key).map(|kept| kept.expires_at_ms = Some(at_ms));
        Ok(Reply::Number(there.map_or(0, |()| 1)))
    }

    fn hash(&mut self, key: &Bytes) -> Result<&mut BTreeMap<Bytes, Bytes>, Failed> {
        let new = || Kept { value: Value::Hash(BTreeMap::new()), expires_at_ms: None };
        match &mut self.0.entry(key.clone()).or_insert_with(new).value {
            Value::Hash(hash) => Ok(hash),
            Value::Sorted(_) => Err(wrong_type()),
        }
    }

    fn sorted(&mut self, key: &Bytes) -> Result<&mut BTreeSet<(u64, Bytes)>, Failed> {
        let new = || Kept { value: Value::Sorted(BTreeSet::new()), expires_at_ms: None };
        match &mut self.0.entry(key.clone()).or_insert_with(new).value {
            Value::Sorted(set) => Ok(set),
            Value::Hash(_) => Err(wrong_type()),
        }
    }
}

fn wrong() -> Failed {
    "ERR syntax error".to_owned()
}

fn wrong_type() -> Failed {
    "WRONGTYPE Operation against a key holding the wrong kind of value".to_owned()
}

fn number(args: &[Bytes], index: usize) -> Result<u64, Failed> {
    let text = args.get(index).and_then(|arg| std::str::from_utf8(arg).ok());
    text.and_then(|text| text.parse().ok()).ok_or_else(|| "ERR value is not an integer".to_owned())
}
