//! Tokens that must be refused, each with its code, and the ones that must pass beside them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "the functions that the tests share are tests too")]

mod token_support;

use aws_lc_rs::hmac::{HMAC_SHA256, HMAC_SHA384, HMAC_SHA512};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use tidings::auth::TokenFault::{self, Claims, Expired, Malformed, Missing, Signature};
use tidings::auth::{Identity, Jwt};
use token_support::{NOW, OTHER_SECRET, RSA, SECRET, Signer, claims, claims_with, encode, header, ours, pem};

/// A token's name, itself, and what is wrong with it.
type Case = (String, String, TokenFault);

fn shared() -> Jwt {
    Jwt::hs256(SECRET).unwrap()
}

fn ec_key() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
}

/// Verifies each case, and says of all that went wrong at once which they are.
fn assert_refused(jwt: &Jwt, cases: &[Case]) {
    let wrong: Vec<_> = cases
        .iter()
        .filter_map(|(name, token, fault)| match jwt.verify(token, NOW) {
            Err(error) if error.fault() == *fault => None,
            Err(error) => Some(format!("{name}: {error}, not {fault:?}")),
            Ok(_) => Some(format!("{name}: accepted")),
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn case(name: &str, token: impl Into<String>, fault: TokenFault) -> Case {
    (name.to_owned(), token.into(), fault)
}

/// Not three base64url parts with a JSON header and JSON claims.
fn shapes() -> Vec<Case> {
    let good = ours().sign(&header("HS256"), claims());
    let [head, body, signature]: [&str; 3] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let standard = |text: &str| STANDARD.encode(text).trim_end_matches('=').to_owned();
    // 0xfb and 0xff are where the two alphabets differ.
    let in_standard = standard(r#"{"alg":"HS256","kid":"û>>>???ÿÿ"}"#);
    assert!(in_standard.contains(['+', '/']), "the case needs a letter of the standard alphabet");
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(500), "]".repeat(500));
    vec![
        case("nothing at all", "", Missing),
        case("one part", head, Malformed),
        case("two parts", format!("{head}.{body}"), Malformed),
        case("four parts", format!("{good}.{signature}"), Malformed),
        case("a dot behind it", format!("{good}."), Malformed),
        case("a dot before it", format!(".{good}"), Malformed),
        case("three empty parts", "..", Malformed),
        case("an empty header", format!(".{body}.{signature}"), Malformed),
        case("no claims, and a signature of something else", format!("{head}..{signature}"), Signature),
        case("padding", format!("{}.{body}.{signature}", URL_SAFE.encode("{\"alg\":\"HS256\"} ")), Malformed),
        case("the standard alphabet", format!("{in_standard}.{body}.{signature}"), Malformed),
        case("letters of no alphabet", format!("{head}.{body}!.{signature}"), Malformed),
        case("a space before it", format!(" {good}"), Malformed),
        case("a space behind it", format!("{good} "), Malformed),
        case("a line's end behind it", format!("{good}\n"), Malformed),
        case("a NUL behind it", format!("{good}\0"), Malformed),
        case("a NUL in it", good.replacen('.', "\0.", 1), Malformed),
        case("letters beyond ASCII", format!("{head}.{body}.é{signature}"), Malformed),
        case("a length that base64 can't have", format!("{head}.{body}.{signature}AA"), Malformed),
        case(
            "9 KiB",
            ours().sign(&header("HS256"), claims_with(&format!(",\"x\":\"{}\"", "x".repeat(7000)))),
            Malformed,
        ),
        case("a header that is text", ours().sign("HS256", claims()), Malformed),
        case("a header that is a list", ours().sign(r#"["HS256"]"#, claims()), Malformed),
        case("a header that is null", ours().sign("null", claims()), Malformed),
        case(
            "a header with two algorithms",
            ours().sign(r#"{"alg":"HS256","alg":"none"}"#, claims()),
            Malformed,
        ),
        case("a header with more behind it", ours().sign(r#"{"alg":"HS256"}{}"#, claims()), Malformed),
        case("no algorithm", ours().sign(r#"{"typ":"JWT"}"#, claims()), Malformed),
        case("an algorithm that is a number", ours().sign(r#"{"alg":256}"#, claims()), Malformed),
        case("an algorithm that is null", ours().sign(r#"{"alg":null}"#, claims()), Malformed),
        case("a kid that is a number", ours().sign(r#"{"alg":"HS256","kid":1}"#, claims()), Malformed),
        case("a kid that is null", ours().sign(r#"{"alg":"HS256","kid":null}"#, claims()), Malformed),
        case("crit", ours().sign(r#"{"alg":"HS256","crit":["exp"],"exp":1}"#, claims()), Malformed),
        case(
            "crit with b64",
            ours().sign(r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#, claims()),
            Malformed,
        ),
        case("an empty crit", ours().sign(r#"{"alg":"HS256","crit":[]}"#, claims()), Malformed),
        case("a null crit", ours().sign(r#"{"alg":"HS256","crit":null}"#, claims()), Malformed),
        case("claims that are a list", ours().sign(&header("HS256"), format!("[{}]", claims())), Malformed),
        case(
            "claims that are a list of values",
            ours().sign(&header("HS256"), format!(r#"["ann",{},"tidings"]"#, NOW + 60)),
            Malformed,
        ),
        case("claims that are text", ours().sign(&header("HS256"), "\"ann\""), Malformed),
        case("claims that are no JSON", ours().sign(&header("HS256"), "sub=ann"), Malformed),
        case("claims with more behind them", ours().sign(&header("HS256"), claims() + "{}"), Malformed),
        case("claims that are empty", ours().sign(&header("HS256"), ""), Malformed),
        case("claims that are not UTF-8", ours().sign(&header("HS256"), b"{\"sub\":\"\xff\"}"), Malformed),
        case("claims that nest 500 deep", ours().sign(&header("HS256"), deep), Malformed),
    ]
}

/// No key of ours has signed it.
fn signatures() -> Vec<Case> {
    let good = ours().sign(&header("HS256"), claims());
    let another = ours().sign(&header("HS256"), claims_with(",\"iat\":1"));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (_, others) = another.rsplit_once('.').unwrap();
    let (head, body) = signed.split_once('.').unwrap();
    let bytes = ours().signature(signed.as_bytes());
    let altered = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        format!("{signed}.{}", encode(bytes))
    };
    let (attacker, thief) = (Signer::Hmac(HMAC_SHA256, OTHER_SECRET), ec_key());
    let jwk = format!(r#"{{"alg":"HS256","jwk":{{"kty":"oct","k":"{}"}}}}"#, encode(OTHER_SECRET));
    let mut cases = vec![
        case("no signature", format!("{signed}."), Signature),
        case("a signature cut in half", format!("{signed}.{}", encode(&bytes[..16])), Signature),
        case(
            "a signature with one byte too many",
            format!("{signed}.{}", encode([&bytes[..], &[0]].concat())),
            Signature,
        ),
        case("a signature of zeroes", format!("{signed}.{}", encode([0; 32])), Signature),
        case("the signature of another token", format!("{signed}.{others}"), Signature),
        case("a bit of the signature's first byte", altered(0), Signature),
        case("a bit of the signature's last byte", altered(31), Signature),
        case("another header", format!("{}.{body}.{signature}", encode(r#"{"alg":"HS256"}"#)), Signature),
        case(
            "other claims",
            format!("{head}.{}.{signature}", encode(claims_with(",\"admin\":true"))),
            Signature,
        ),
        case(
            "a bit of the claims",
            format!("{head}.{}.{signature}", encode(claims().replace("ann", "anm"))),
            Signature,
        ),
        case("another secret", attacker.sign(&header("HS256"), claims()), Signature),
        case(
            "another secret, and expired",
            attacker.sign(&header("HS256"), claims().replace(&(NOW + 3600).to_string(), "1")),
            Signature,
        ),
        case("an empty secret", Signer::Hmac(HMAC_SHA256, b"").sign(&header("HS256"), claims()), Signature),
        case(
            "HS512 for the key of HS256",
            Signer::Hmac(HMAC_SHA512, SECRET).sign(&header("HS512"), claims()),
            Signature,
        ),
        case(
            "HS384 for the key of HS256",
            Signer::Hmac(HMAC_SHA384, SECRET).sign(&header("HS384"), claims()),
            Signature,
        ),
        case(
            "HS512 that calls itself HS256",
            Signer::Hmac(HMAC_SHA512, SECRET).sign(&header("HS256"), claims()),
            Signature,
        ),
        case("HS256 that calls itself HS512", ours().sign(&header("HS512"), claims()), Signature),
        case(
            "RS256 for a secret",
            Signer::Rsa(&RSA, &RSA_PKCS1_SHA256).sign(&header("RS256"), claims()),
            Signature,
        ),
        case("ES256 for a secret", Signer::Ecdsa(&thief).sign(&header("ES256"), claims()), Signature),
        case("a key in the header (jwk)", attacker.sign(&jwk, claims()), Signature),
        case(
            "a key's address in the header (jku)",
            attacker.sign(r#"{"alg":"HS256","jku":"https://evil.example/keys"}"#, claims()),
            Signature,
        ),
        case(
            "a certificate in the header (x5c)",
            attacker.sign(r#"{"alg":"HS256","x5c":["MIIB"]}"#, claims()),
            Signature,
        ),
        case(
            "a certificate's address in the header (x5u)",
            attacker.sign(r#"{"alg":"HS256","x5u":"https://evil.example/c"}"#, claims()),
            Signature,
        ),
    ];
    for algorithm in
        ["none", "None", "nOnE", "NONE", "", " ", "hs256", "HS256 ", "HS257", "ES256K", "RSA-OAEP", "dir"]
    {
        cases.push(case(
            &format!("alg {algorithm:?}, not signed"),
            format!("{}.{}.", encode(header(algorithm)), encode(claims())),
            Signature,
        ));
        cases.push(case(
            &format!("alg {algorithm:?}, signed"),
            ours().sign(&header(algorithm), claims()),
            Signature,
        ));
    }
    cases
}

/// Genuine, and a claim is missing, of the wrong type, or not for us.
fn wrong_claims() -> Vec<Case> {
    let long = "x".repeat(129);
    let (soon, hour) = (NOW + 31, NOW + 3600);
    let rest = format!(r#""exp":{hour},"aud":"tidings""#);
    let wrong = [
        ("no claims", "{}".to_owned()),
        ("sub missing", format!("{{{rest}}}")),
        ("sub null", format!(r#"{{"sub":null,{rest}}}"#)),
        ("sub a number", format!(r#"{{"sub":42,{rest}}}"#)),
        ("sub a list", format!(r#"{{"sub":["ann"],{rest}}}"#)),
        ("sub empty", format!(r#"{{"sub":"",{rest}}}"#)),
        ("sub of 129 bytes", format!(r#"{{"sub":"{long}",{rest}}}"#)),
        ("sub of 129 bytes in 43 letters", format!(r#"{{"sub":"{}",{rest}}}"#, "€".repeat(43))),
        ("sub with a line's end", format!(r#"{{"sub":"ann\n",{rest}}}"#)),
        ("sub with a NUL", format!(r#"{{"sub":"ann\u0000",{rest}}}"#)),
        ("sub with a C1 control", format!(r#"{{"sub":"ann\u0085",{rest}}}"#)),
        ("sub twice", format!(r#"{{"sub":"ann","sub":"bob",{rest}}}"#)),
        ("exp missing", r#"{"sub":"ann","aud":"tidings"}"#.to_owned()),
        ("exp twice", format!(r#"{{"sub":"ann",{rest},"exp":{hour}}}"#)),
        ("aud missing", format!(r#"{{"sub":"ann","exp":{hour}}}"#)),
        ("aud twice", format!(r#"{{"sub":"ann",{rest},"aud":"other"}}"#)),
    ];
    let exps = [
        "null",
        "true",
        "\"1795472400\"",
        "\"tomorrow\"",
        "-1",
        "-1.5",
        "18446744073709551615",
        "99999999999999999999999",
        "1e300",
        "253402300801",
        "[1795472400]",
        "{}",
    ];
    let auds = [
        "null",
        "7",
        "true",
        "\"\"",
        "\"other\"",
        "\"Tidings\"",
        "\"tidings \"",
        "[]",
        "[\"other\",\"more\"]",
        "[7]",
        "[\"tidings\",7]",
        "[null]",
        "[[\"tidings\"]]",
        "{\"tidings\":1}",
    ];
    let more = [
        format!("\"nbf\":{soon}"),
        "\"nbf\":\"now\"".to_owned(),
        "\"nbf\":null".to_owned(),
        "\"nbf\":-1".to_owned(),
        "\"iat\":\"now\"".to_owned(),
        "\"iat\":null".to_owned(),
        "\"iat\":[]".to_owned(),
        "\"rooms\":\"chat\"".to_owned(),
        "\"rooms\":null".to_owned(),
        "\"rooms\":{}".to_owned(),
        "\"rooms\":[7]".to_owned(),
        "\"rooms\":[\"chat\",\"a room\"]".to_owned(),
        "\"rooms\":[\"\"]".to_owned(),
        "\"rooms\":[\"a@b\"]".to_owned(),
        format!("\"rooms\":[\"{long}\"]"),
        "\"max_connections\":0".to_owned(),
        "\"max_connections\":-1".to_owned(),
        "\"max_connections\":1.5".to_owned(),
        "\"max_connections\":4294967296".to_owned(),
        "\"max_connections\":\"5\"".to_owned(),
        "\"max_connections\":null".to_owned(),
    ];
    let wrong = wrong.into_iter().map(|(name, claims)| (name.to_owned(), claims));
    let exps =
        exps.map(|exp| (format!("exp {exp}"), format!(r#"{{"sub":"ann","exp":{exp},"aud":"tidings"}}"#)));
    let auds = auds.map(|aud| (format!("aud {aud}"), format!(r#"{{"sub":"ann","exp":{hour},"aud":{aud}}}"#)));
    let more = more.map(|claim| (claim.clone(), claims_with(&format!(",{claim}"))));
    let all = wrong.chain(exps).chain(auds).chain(more);
    all.map(|(name, claims)| (name, ours().sign(&header("HS256"), claims), Claims)).collect()
}

fn expired() -> Vec<Case> {
    let ends = [("31", NOW - 31), ("a day", NOW - 86_400), ("all of the calendar", 0)];
    let ended = ends.map(|(ago, exp)| {
        let claims = format!(r#"{{"sub":"ann","exp":{exp},"aud":"tidings"}}"#);
        case(&format!("expired {ago} ago"), ours().sign(&header("HS256"), claims), Expired)
    });
    // Whose clock is wrong is what both need to know first: expiry comes before audience and user.
    let other = format!(r#"{{"sub":"","exp":{},"aud":"other"}}"#, NOW - 31);
    ended
        .into_iter()
        .chain([case("expired, and for another", ours().sign(&header("HS256"), other), Expired)])
        .collect()
}

#[test]
fn each_bad_token_is_refused_with_its_code() {
    let cases: Vec<Case> = [shapes(), signatures(), wrong_claims(), expired()].concat();
    assert!(cases.len() >= 60, "only {} tokens", cases.len());
    assert_refused(&shared(), &cases);
    for fault in [Missing, Malformed, Expired, Signature, Claims] {
        assert!(cases.iter().any(|(_, _, of)| *of == fault), "no token with {fault:?}");
    }
    assert!(
        shared().verify(&ours().sign(&header("HS256"), claims()), NOW).is_ok(),
        "the good one beside them"
    );
}

#[test]
fn a_public_key_is_no_secret_and_no_other_algorithms_key() {
    let (rsa, ec) = (pem(&*RSA), ec_key());
    let ec_pem = pem(&ec);
    let pkcs1 = Signer::Rsa(&RSA, &RSA_PKCS1_SHA256);
    let pss = Signer::Rsa(&RSA, &RSA_PSS_SHA256);
    let both = Jwt::rsa_pem(&rsa).unwrap().or(shared());
    for (name, jwt) in [("RSA", Jwt::rsa_pem(&rsa).unwrap()), ("RSA and a secret", both)] {
        let confused = ["HS256", "HS384", "HS512"].map(|algorithm| {
            let hash = match algorithm {
                "HS256" => HMAC_SHA256,
                "HS384" => HMAC_SHA384,
                _ => HMAC_SHA512,
            };
            case(
                &format!("{algorithm} under the PEM, for {name}"),
                Signer::Hmac(hash, &rsa).sign(&header(algorithm), claims()),
                Signature,
            )
        });
        assert_refused(&jwt, &confused);
        assert_refused(&jwt, &[case("PSS for PKCS #1", pss.sign(&header("PS256"), claims()), Signature)]);
        assert_refused(
            &jwt,
            &[case("PSS that calls itself RS256", pss.sign(&header("RS256"), claims()), Signature)],
        );
        assert_refused(
            &jwt,
            &[case("RS256 that calls itself RS512", pkcs1.sign(&header("RS512"), claims()), Signature)],
        );
        assert!(jwt.verify(&pkcs1.sign(&header("RS256"), claims()), NOW).is_ok());
    }
    let for_pss = Jwt::rsa_pss_pem(&rsa).unwrap();
    assert_refused(
        &for_pss,
        &[
            case("RS256 for PSS", pkcs1.sign(&header("RS256"), claims()), Signature),
            case("RS256 that calls itself PS256", pkcs1.sign(&header("PS256"), claims()), Signature),
        ],
    );
    let on_p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    assert_refused(
        &Jwt::es256_pem(&ec_pem).unwrap(),
        &[
            case(
                "the PEM as a secret",
                Signer::Hmac(HMAC_SHA256, &ec_pem).sign(&header("HS256"), claims()),
                Signature,
            ),
            case("another EC key", Signer::Ecdsa(&ec_key()).sign(&header("ES256"), claims()), Signature),
            case("another curve", Signer::Ecdsa(&on_p384).sign(&header("ES384"), claims()), Signature),
            case(
                "another curve that calls itself ES256",
                Signer::Ecdsa(&on_p384).sign(&header("ES256"), claims()),
                Signature,
            ),
            case(
                "a signature of zeroes",
                format!("{}.{}.{}", encode(header("ES256")), encode(claims()), encode([0; 64])),
                Signature,
            ),
        ],
    );
}

#[test]
fn every_algorithm_is_accepted_with_its_own_key() {
    let rsa = pem(&*RSA);
    let (p256, p384) = (ec_key(), EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap());
    let ed25519 = Ed25519KeyPair::generate().unwrap();
    let keys = [
        ("HS256", shared(), ours()),
        ("HS384", Jwt::hs384(SECRET).unwrap(), Signer::Hmac(HMAC_SHA384, SECRET)),
        ("HS512", Jwt::hs512(SECRET).unwrap(), Signer::Hmac(HMAC_SHA512, SECRET)),
        ("RS256", Jwt::rsa_pem(&rsa).unwrap(), Signer::Rsa(&RSA, &RSA_PKCS1_SHA256)),
        ("RS384", Jwt::rsa_pem(&rsa).unwrap(), Signer::Rsa(&RSA, &RSA_PKCS1_SHA384)),
        ("RS512", Jwt::rsa_pem(&rsa).unwrap(), Signer::Rsa(&RSA, &RSA_PKCS1_SHA512)),
        ("PS256", Jwt::rsa_pss_pem(&rsa).unwrap(), Signer::Rsa(&RSA, &RSA_PSS_SHA256)),
        ("PS384", Jwt::rsa_pss_pem(&rsa).unwrap(), Signer::Rsa(&RSA, &RSA_PSS_SHA384)),
        ("PS512", Jwt::rsa_pss_pem(&rsa).unwrap(), Signer::Rsa(&RSA, &RSA_PSS_SHA512)),
        ("ES256", Jwt::es256_pem(&pem(&p256)).unwrap(), Signer::Ecdsa(&p256)),
        ("ES384", Jwt::es384_pem(&pem(&p384)).unwrap(), Signer::Ecdsa(&p384)),
        ("EdDSA", Jwt::eddsa_pem(&pem(&ed25519)).unwrap(), Signer::Ed25519(&ed25519)),
    ];
    for (signed_as, _, signer) in &keys {
        let token = signer.sign(&header(signed_as), claims());
        for (algorithm, jwt, _) in &keys {
            // A key serves its family: RS256 to RS512 and PS256 to PS512 are one key each.
            let family = |name: &str| {
                if name.starts_with("RS") || name.starts_with("PS") {
                    name[..2].to_owned()
                } else {
                    name.to_owned()
                }
            };
            let accepted = jwt.verify(&token, NOW).is_ok_and(|identity| identity.user().as_str() == "ann");
            assert_eq!(
                accepted,
                family(signed_as) == family(algorithm),
                "{signed_as} for the key of {algorithm}"
            );
        }
    }
}

#[test]
fn keys_that_can_not_be_used_are_refused_at_the_start() {
    assert!(Jwt::hs256(&[0; 31]).is_err() && Jwt::hs384(&[0; 31]).is_err() && Jwt::hs512(&[0; 31]).is_err());
    let (rsa, ec) = (pem(&*RSA), pem(&ec_key()));
    assert!(Jwt::rsa_pem(&ec).is_err() && Jwt::es256_pem(&rsa).is_err() && Jwt::eddsa_pem(&rsa).is_err());
    assert!(Jwt::rsa_pem(b"no PEM").is_err() && Jwt::es384_pem(b"").is_err());
}

fn accepted(claims: &str) -> Identity {
    let token = ours().sign(&header("HS256"), claims);
    shared().verify(&token, NOW).unwrap_or_else(|error| panic!("{claims}: {error}"))
}

#[test]
fn unusual_claims_that_are_good() {
    assert_eq!(accepted(&claims().replace("\"tidings\"", r#"["other","tidings"]"#)).user().as_str(), "ann");
    assert_eq!(accepted(&claims().replace("ann", "Zoë 🦀")).user().as_str(), "Zoë 🦀");
    let longest = "x".repeat(128);
    assert_eq!(accepted(&claims().replace("ann", &longest)).user().as_str(), longest);
    let fraction = accepted(&format!(r#"{{"sub":"ann","exp":{}.75,"aud":"tidings"}}"#, NOW + 60));
    assert_eq!(fraction.expires_at_unix_s(), Some(NOW + 60));
    let more = accepted(&claims_with(
        r#","rooms":["chat:1","user:ann"],"max_connections":2,"iat":1.5,"nbf":0,"admin":null"#,
    ));
    assert_eq!(more.rooms().iter().map(ToString::to_string).collect::<Vec<_>>(), ["chat:1", "user:ann"]);
    assert_eq!(more.max_connections(), Some(2));
    assert!(more.claims::<serde_json::Value>().unwrap()["admin"].is_null());
    let plain = accepted(&claims());
    assert!(plain.rooms().is_empty() && plain.max_connections().is_none());
    let spaced = ours().sign("\n {\"alg\" : \"HS256\"} ", format!(" {} ", claims()));
    assert!(shared().verify(&spaced, NOW).is_ok(), "white space in JSON means nothing");
    let carries_keys = ours().sign(r#"{"alg":"HS256","jwk":{},"jku":"x","x5c":[]}"#, claims());
    assert!(shared().verify(&carries_keys, NOW).is_ok(), "keys in a header are not looked at");
    let theirs = Jwt::hs256(SECRET).unwrap().audience("theirs");
    let token = ours().sign(&header("HS256"), claims().replace("tidings", "theirs"));
    assert!(theirs.verify(&token, NOW).is_ok() && shared().verify(&token, NOW).is_err());
}

#[test]
fn clocks_may_differ_by_the_leeway_and_not_more() {
    let fault = |jwt: &Jwt, token: &str, now| jwt.verify(token, now).err().map(|error| error.fault());
    let (jwt, exp) = (shared(), NOW + 3600);
    let token = ours().sign(&header("HS256"), claims_with(&format!(",\"nbf\":{NOW}")));
    assert_eq!(fault(&jwt, &token, NOW - 31), Some(Claims));
    for good in [NOW - 30, NOW, exp, exp + 30] {
        assert_eq!(fault(&jwt, &token, good), None, "at {good}");
    }
    for late in [exp + 31, u64::MAX] {
        assert_eq!(fault(&jwt, &token, late), Some(Expired), "at {late}");
    }
    let strict = shared().leeway(std::time::Duration::ZERO);
    assert_eq!((fault(&strict, &token, exp), fault(&strict, &token, exp + 1)), (None, Some(Expired)));
}

#[test]
fn a_token_of_8_kib_is_the_longest() {
    let sized = |filler: usize| {
        ours().sign(&header("HS256"), claims_with(&format!(",\"x\":\"{}\"", "x".repeat(filler))))
    };
    let (mut passed, mut refused) = (0, usize::MAX);
    for token in (5950..6150).map(sized) {
        match shared().verify(&token, NOW) {
            Ok(_) => passed = passed.max(token.len()),
            Err(error) => {
                assert_eq!(error.fault(), Malformed);
                refused = refused.min(token.len());
            }
        }
    }
    // Base64 makes no length of 4n + 1, so that one of the three parts may step over a number.
    assert!((8190..=8192).contains(&passed) && (8193..=8195).contains(&refused), "{passed} and {refused}");
}

#[test]
fn keys_are_rotated_by_name() {
    let rotating =
        Jwt::hs256(SECRET).unwrap().key_id("2026").or(Jwt::hs256(OTHER_SECRET).unwrap().key_id("2025"));
    let old = Signer::Hmac(HMAC_SHA256, OTHER_SECRET);
    let named = |signer: &Signer<'_>, kid: &str| {
        signer.sign(&serde_json::json!({"alg": "HS256", "kid": kid}).to_string(), claims())
    };
    for token in [
        named(&ours(), "2026"),
        named(&old, "2025"),
        ours().sign(&header("HS256"), claims()),
        old.sign(&header("HS256"), claims()),
    ] {
        assert!(rotating.verify(&token, NOW).is_ok(), "{token}");
    }
    let kids = [
        "2025",
        "2027",
        "",
        "2026 ",
        "../../../../dev/null",
        "file:///dev/null",
        "2026' OR '1'='1",
        "2026; DROP TABLE keys",
        "2026\0",
    ];
    let cases = kids.map(|kid| case(&format!("kid {kid:?}"), named(&ours(), kid), Signature));
    assert_refused(&rotating, &cases);
    // The same names mean nothing to a key without one.
    for kid in kids {
        assert!(shared().verify(&named(&ours(), kid), NOW).is_ok());
    }
}
