//! What a Redis server keeps, and the commands on it that the scripts use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::reply::Reply;

/// Every key of a server. A copy shares what neither has changed since.
#[derive(Clone, Default)]
pub(crate) struct Data(BTreeMap<Bytes, Arc<Kept>>);

#[derive(Clone)]
struct Kept {
    value: Value,
    expires_at_ms: Option<u64>,
}

#[derive(Clone)]
enum Value {
    Hash(BTreeMap<Bytes, Bytes>),
    Sorted(Sorted),
}

/// By score; a score is a whole number.
#[derive(Clone, Default)]
struct Sorted {
    members: BTreeSet<(i64, Bytes)>,
    scores: BTreeMap<Bytes, i64>,
}

impl Sorted {
    fn remove(&mut self, member: &Bytes) {
        if let Some(score) = self.scores.remove(member) {
            self.members.remove(&(score, member.clone()));
        }
    }

    fn add(&mut self, score: i64, member: &Bytes) {
        self.remove(member);
        self.members.insert((score, member.clone()));
        self.scores.insert(member.clone(), score);
    }
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
    pub(crate) fn members(&self, key: &[u8]) -> impl Iterator<Item = &(i64, Bytes)> {
        let set = self.0.get(key).and_then(|kept| match &kept.value {
            Value::Sorted(set) => Some(&set.members),
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
            "EXISTS" => {
                // What is empty is not there.
                let is_there = self.0.get(key).is_some_and(|kept| match &kept.value {
                    Value::Hash(hash) => !hash.is_empty(),
                    Value::Sorted(set) => !set.members.is_empty(),
                });
                Ok(Reply::Number(i64::from(is_there)))
            }
            "EXPIRE" => self.expire(key, now_ms + 1000 * number(args, 1)? as u64),
            "PEXPIRE" => self.expire(key, now_ms + number(args, 1)? as u64),
            "HGET" | "HMGET" => {
                let get = |field: &Bytes| {
                    let Some(Kept { value: Value::Hash(hash), .. }) = self.0.get(key).map(|kept| &**kept)
                    else {
                        return Reply::Null;
                    };
                    hash.get(field).cloned().map_or(Reply::Null, Reply::Text)
                };
                let mut values: Vec<_> = args[1..].iter().map(get).collect();
                if name == "HMGET" { Ok(Reply::Array(values)) } else { values.pop().ok_or_else(wrong) }
            }
            "HLEN" => {
                let Some(Kept { value: Value::Hash(hash), .. }) = self.0.get(key).map(|kept| &**kept) else {
                    return Ok(Reply::Number(0));
                };
                Ok(Reply::Number(hash.len() as i64))
            }
            // All in one page.
            "HSCAN" => {
                let pairs = match self.0.get(key).map(|kept| &kept.value) {
                    Some(Value::Hash(hash)) => {
                        hash.iter().flat_map(|(field, value)| [field, value]).collect()
                    }
                    _ => Vec::new(),
                };
                let pairs = pairs.into_iter().cloned().map(Reply::Text).collect();
                Ok(Reply::Array(vec![Reply::text("0"), Reply::Array(pairs)]))
            }
            "HSET" => {
                let hash = self.hash(key)?;
                for pair in args[1..].chunks_exact(2) {
                    hash.insert(pair[0].clone(), pair[1].clone());
                }
                Ok(Reply::Number(0))
            }
            "HDEL" => {
                let hash = self.hash(key)?;
                args[1..].iter().for_each(|field| drop(hash.remove(field)));
                Ok(Reply::Number(0))
            }
            "ZADD" => {
                let (score, member) = (number(args, 1)?, args.get(2).ok_or_else(wrong)?);
                self.sorted(key)?.add(score, member);
                Ok(Reply::Number(1))
            }
            "ZREM" => {
                let set = self.sorted(key)?;
                args[1..].iter().for_each(|member| set.remove(member));
                Ok(Reply::Number(0))
            }
            "ZSCORE" => {
                let member = args.get(1).ok_or_else(wrong)?;
                let Some(Kept { value: Value::Sorted(set), .. }) = self.0.get(key).map(|kept| &**kept) else {
                    return Ok(Reply::Null);
                };
                let score = set.scores.get(member);
                Ok(score.map_or(Reply::Null, |score| Reply::text(&score.to_string())))
            }
            "ZCARD" => Ok(Reply::Number(self.members(key).count() as i64)),
            "ZCOUNT" => Ok(Reply::Number(self.range(key, args)?.len() as i64)),
            "ZRANGE" | "ZRANGEBYSCORE" => {
                let with_scores = args.iter().any(|arg| arg == "WITHSCORES");
                let by_score = name == "ZRANGEBYSCORE" || args.iter().any(|arg| arg == "BYSCORE");
                let mut found = if by_score { self.range(key, args)? } else { self.ranks(key, args)? };
                if let Some(limit) = args.iter().position(|arg| arg == "LIMIT") {
                    found.truncate(number(args, limit + 2)? as usize);
                }
                let mut reply = Vec::new();
                for (score, member) in found {
                    reply.push(Reply::Text(member));
                    if with_scores {
                        reply.push(Reply::text(&score.to_string()));
                    }
                }
                Ok(Reply::Array(reply))
            }
            "ZREMRANGEBYRANK" | "ZREMRANGEBYSCORE" => {
                let by_score = name == "ZREMRANGEBYSCORE";
                let gone = if by_score { self.range(key, args)? } else { self.ranks(key, args)? };
                let set = self.sorted(key)?;
                gone.iter().for_each(|(_, member)| set.remove(member));
                Ok(Reply::Number(gone.len() as i64))
            }
            _ => {
                Err(format!("ERR unknown command '{name}': teach simulation/tests/nodes/redis what it does"))
            }
        }
    }

    /// The members between two scores, `args[1]` and `args[2]`.
    fn range(&self, key: &Bytes, args: &[Bytes]) -> Result<Vec<(i64, Bytes)>, Failed> {
        let bound = |index: usize, beside: i64| {
            let text = args.get(index).and_then(|arg| std::str::from_utf8(arg).ok()).ok_or_else(wrong)?;
            let parse = |text: &str| text.parse::<i64>().map_err(|_| wrong());
            match text {
                "-inf" => Ok(i64::MIN),
                "+inf" => Ok(i64::MAX),
                _ => match text.strip_prefix('(') {
                    Some(text) => Ok(parse(text)? + beside),
                    None => parse(text),
                },
            }
        };
        let (low, high) = (bound(1, 1)?, bound(2, -1)?);
        Ok(self.members(key).filter(|(score, _)| (low..=high).contains(score)).cloned().collect())
    }

    /// The members between two ranks, which count from the other end with `REV`, and to the end with -1.
    fn ranks(&self, key: &Bytes, args: &[Bytes]) -> Result<Vec<(i64, Bytes)>, Failed> {
        let (first, last) = (number(args, 1)?, number(args, 2)?);
        let mut members: Vec<_> = self.members(key).cloned().collect();
        if args.iter().any(|arg| arg == "REV") {
            members.reverse();
        }
        let end = if last < 0 { members.len() } else { members.len().min(last as usize + 1) };
        Ok(members.get(first as usize..end).unwrap_or_default().to_vec())
    }

    fn expire(&mut self, key: &[u8], at_ms: u64) -> Answer {
        let there = self.0.get_mut(key).map(|kept| Arc::make_mut(kept).expires_at_ms = Some(at_ms));
        Ok(Reply::Number(there.map_or(0, |()| 1)))
    }

    fn hash(&mut self, key: &Bytes) -> Result<&mut BTreeMap<Bytes, Bytes>, Failed> {
        let new = || Arc::new(Kept { value: Value::Hash(BTreeMap::new()), expires_at_ms: None });
        match &mut Arc::make_mut(self.0.entry(key.clone()).or_insert_with(new)).value {
            Value::Hash(hash) => Ok(hash),
            Value::Sorted(_) => Err(wrong_type()),
        }
    }

    fn sorted(&mut self, key: &Bytes) -> Result<&mut Sorted, Failed> {
        let new = || Arc::new(Kept { value: Value::Sorted(Sorted::default()), expires_at_ms: None });
        match &mut Arc::make_mut(self.0.entry(key.clone()).or_insert_with(new)).value {
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

fn number(args: &[Bytes], index: usize) -> Result<i64, Failed> {
    let text = args.get(index).and_then(|arg| std::str::from_utf8(arg).ok());
    text.and_then(|text| text.parse().ok()).ok_or_else(|| "ERR value is not an integer".to_owned())
}
