//! What can be wrong with the application's database: what passes by itself, and what somebody has to mend.

use std::borrow::Cow;
use std::fmt;

/// Why a user's rooms are not known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// Of the configuration, or of the database's schema: waiting does not help.
    Wrong { message: String, fix: String },
    /// The database can't be asked now.
    Away(String),
    /// No answer in time.
    Slow,
    /// The id is none that the database could know: a text where it has numbers.
    NoSuchId,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong { message, .. } => f.write_str(message),
            Self::Away(why) => f.write_str(why),
            Self::Slow => f.write_str("the database did not answer in time"),
            Self::NoSuchId => f.write_str("the database knows no such ids"),
        }
    }
}

impl Fault {
    pub(super) fn wrong(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Wrong { message: message.into(), fix: fix.into() }
    }

    /// What an error of the database's means here. It is told in the database's own words.
    pub(super) fn of(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                let code = error.code().unwrap_or(Cow::Borrowed(""));
                let message = error.message();
                match error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
                    Some(_) => of_postgres(&code, message),
                    None => of_sqlite(&code, message),
                }
            }
            // A pool that waited for its connection: there was none to be had, or none free.
            sqlx::Error::PoolTimedOut => Self::Slow,
            sqlx::Error::Configuration(why) => Self::wrong(why.to_string(), "mend the url"),
            sqlx::Error::Tls(why) => of_tls(&why.to_string()),
            // A certificate that is not believed comes as what was read being wrong.
            sqlx::Error::Io(error) if error.get_ref().is_some_and(|why| why.is::<rustls::Error>()) => {
                of_tls(&error.to_string())
            }
            sqlx::Error::ColumnDecode { source, .. } => {
                Self::wrong(source.to_string(), "the query has to give the room's name as text")
            }
            other => Self::Away(other.to_string()),
        }
    }
}

fn of_tls(why: &str) -> Fault {
    Fault::wrong(
        format!("TLS: {why}"),
        "sslmode in the url says what is asked for, and sslrootcert names the authority's file",
    )
}

/// By the class of its code: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn of_postgres(code: &str, message: &str) -> Fault {
    let told = format!("{message} ({code})");
    match code {
        // query_canceled, by statement_timeout.
        "57014" => Fault::Slow,
        // No text of a number, a UUID or a date; a number that is out of range. The only data that we bring is the id.
        "22P02" | "22003" | "22007" | "22008" => Fault::NoSuchId,
        "42883" => Fault::wrong(
            told,
            "the user's id comes as text: cast it to the column's type, as in WHERE user_id = $1::bigint",
        ),
        "42501" => Fault::wrong(told, "GRANT SELECT on what the query reads to this user of the database"),
        "25006" => Fault::wrong(told, "the query may only read: write a SELECT"),
        _ => match code.get(..2) {
            Some("28") => Fault::wrong(
                told,
                "mend user and password in the url; url_file keeps them out of the configuration",
            ),
            Some("3D") => Fault::wrong(
                told,
                "name the application's database in the url: postgres://USER@HOST/DATABASE",
            ),
            Some("42" | "0A" | "26") => {
                Fault::wrong(told, "mend query: it reads the rooms of the user $1 in your tables")
            }
            _ => Fault::Away(told),
        },
    }
}

/// By its code, the lower byte of which is the primary one: <https://www.sqlite.org/rescode.html>.
fn of_sqlite(code: &str, message: &str) -> Fault {
    let told = format!("{message} ({code})");
    match code.parse::<u32>().unwrap_or_default() & 0xff {
        // SQLITE_ERROR
        1 => Fault::wrong(told, "mend query: it reads the rooms of the user $1 in your tables"),
        // SQLITE_READONLY
        8 => Fault::wrong(told, "the query may only read: write a SELECT"),
        // SQLITE_INTERRUPT, by our own deadline; SQLITE_BUSY and SQLITE_LOCKED, after the longest wait.
        5 | 6 | 9 => Fault::Slow,
        // SQLITE_NOTADB
        26 => Fault::wrong(told, "name the application's SQLite file in the url"),
        _ => Fault::Away(told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_has_to_be_mended() {
        let is_wrong = |fault: Fault| matches!(fault, Fault::Wrong { .. });
        for code in ["42P01", "42601", "42703", "42883", "42501", "28P01", "28000", "3D000", "25006", "0A000"]
        {
            assert!(is_wrong(of_postgres(code, "no")), "{code}");
        }
        for code in ["57P01", "57P03", "53300", "08006", "58030", "40001", "55P03", ""] {
            assert!(matches!(of_postgres(code, "no"), Fault::Away(_)), "{code}");
        }
        assert_eq!(of_postgres("22P02", "invalid input syntax for type bigint"), Fault::NoSuchId);
        assert!(matches!(of_postgres("22012", "division by zero"), Fault::Away(_)));
        assert_eq!(of_postgres("57014", "canceling statement due to statement timeout"), Fault::Slow);
        for code in ["1", "26", "8", "264"] {
            assert!(is_wrong(of_sqlite(code, "no")), "{code}");
        }
        for code in ["14", "10", "11", "266", "1294", "none"] {
            assert!(matches!(of_sqlite(code, "no"), Fault::Away(_)), "{code}");
        }
        for code in ["5", "517", "9", "6"] {
            assert_eq!(of_sqlite(code, "no"), Fault::Slow, "{code}");
        }
    }

    #[test]
    fn the_databases_words_are_told() {
        assert_eq!(
            of_sqlite("1", "no such table: memberships").to_string(),
            "no such table: memberships (1)"
        );
    }
}
