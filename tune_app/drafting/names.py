"""Names that columns of labelled texts usually have, without case, blanks and punctuation, the likeliest first."""

import re

TEXTS = (
    *("text", "texts", "post", "tweet", "review", "comment", "message", "document", "passage", "context", "paragraph"),
    *("article", "body", "content", "reviewtext", "reviewbody", "tweettext", "posttext", "fulltext", "cleantext"),
    *("premise", "sentence1", "text1", "texta", "question1", "sentence", "utterance", "transcript", "note", "abstract"),
    *("description", "evidence", "response", "answer", "argument", "email", "sms", "snippet", "headline", "summary"),
    *("input", "sequence", "phrase", "title", "sentences", "question", "query", "claim", "statement", "dialogue"),
)
"""Names of texts. A later one is the text only if no earlier one is there."""

CRITERIA = (
    *("criterion", "criteria", "hypothesis", "sentence2", "text2", "textb", "question2", "question", "query", "claim"),
    *("aspect", "aspectterm", "target", "topic", "statement", "prompt", "textpair"),
)
"""Names of the second text of a pair."""

LABELS = (
    frozenset({"label", "labels", "goldlabel", "gold", "classlabel", "labeltext", "labelname", "groundtruth", "y"}),
    frozenset(
        {
            *("sentiment", "stance", "stars", "star", "rating", "emotion", "polarity", "intent", "verdict", "veracity"),
            *("entailment", "judgment", "judgement", "toxic", "toxicity", "spam", "hate", "hatespeech", "offensive"),
            *("sarcasm", "sarcastic", "duplicate", "annotation", "class", "classes", "classindex", "diagnosis"),
        }
    ),
    frozenset(
        {
            *("target", "category", "categories", "topic", "genre", "type", "score", "grade", "answer", "status"),
            *("language", "lang", "department", "tag", "priority", "quality", "relevance", "outcome", "section"),
        }
    ),
)
"""Names of labels in three ranks: those that say so, those that seldom mean anything else, and those that may."""

GROUPS = (
    *("groupid", "group", "groups", "postid", "documentid", "docid", "articleid", "passageid", "contextid", "textid"),
    *("threadid", "thread", "conversationid", "dialogueid", "dialogid", "sessionid", "promptid", "premiseid"),
    *("userid", "user", "username", "authorid", "author", "patientid", "patient", "subjectid", "subject"),
    *("participantid", "participant", "speakerid", "speaker", "reviewerid", "customerid", "id"),
    # Names of texts, too: a column of texts is not taken for groups.
    *("article", "document", "doc", "post", "passage", "context", "page", "url", "title", "report", "chapter"),
)
"""Names of what rows may have in common, the likeliest first."""

EVIDENCE = (
    ("evidencestart", "evidenceend"),
    ("answerstart", "answerend"),
    ("spanstart", "spanend"),
    ("startchar", "endchar"),
    ("charstart", "charend"),
    ("startoffset", "endoffset"),
    ("startindex", "endindex"),
    ("start", "end"),
    ("begin", "end"),
)
"""Names of the offsets of evidence."""

HEADER = tuple(
    sorted({"text", "label", "criterion", "group_id", *TEXTS, *CRITERIA, *GROUPS, *frozenset().union(*LABELS)})
)
"""Names by which the delimiter of a file is found."""


def plain(name: str) -> str:
    """Return a column's name without case, blanks and punctuation."""
    return re.sub(r"[\W_]+", "", name.lower())


def label_rank(name: str) -> int | None:
    """Return the rank of a label's name, from 0; None for a name that means something else."""
    name_plain = plain(name)
    for rank, names in enumerate(LABELS):
        if name_plain in names:
            return rank
    if re.match(r"(is|has)[ _-]?\w", name, re.IGNORECASE) or name_plain.endswith(("label", "class")):
        return 1
    if any(word in name_plain for word in ("sentiment", "stance", "emotion", "polarity")):
        return 1
    return 2 if name_plain.endswith(("category", "rating", "stars")) else None
