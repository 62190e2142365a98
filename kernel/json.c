/* JSON read: strings, numbers, true, false and null, by the grammar of RFC 8259 alone. What nests, what
   cannot be said and what is only rarely sent is left to msgspec. */
#include "plan.h"

/* so many significant digits say one float each, and none says it with fewer */
#define PLAIN_DIGITS 15
#define EXACT_POWER 22
#define LONGEST_NUMBER 63

static void skip_space(Reader *reader)
{
    while (reader->at < reader->end &&
           (*reader->at == ' ' || *reader->at == '\n' || *reader->at == '\t' || *reader->at == '\r'))
        reader->at++;
}

int is_next(Reader *reader, char mark)
{
    skip_space(reader);
    return reader->at < reader->end && *reader->at == mark;
}

int read_mark(Reader *reader, char mark)
{
    if (!is_next(reader, mark))
        return 0;
    reader->at++;
    return 1;
}

int is_at_end(Reader *reader)
{
    skip_space(reader);
    return reader->at == reader->end;
}

/* --- strings --- */

static int is_utf8(const unsigned char *at, const unsigned char *end)
{
    while (at < end) {
        int more = *at < 0x80 ? 0 : (*at >= 0xc2 && *at < 0xe0) ? 1 : (*at & 0xf0) == 0xe0 ? 2 : 3;
        if (*at >= 0xf5 || (more == 3 && *at < 0xf0) || end - at <= more)
            return 0;
        /* neither longer than needed, nor half of a pair, nor beyond what there is */
        if ((*at == 0xe0 && at[1] < 0xa0) || (*at == 0xed && at[1] > 0x9f) || (*at == 0xf0 && at[1] < 0x90) ||
            (*at == 0xf4 && at[1] > 0x8f))
            return 0;
        for (int i = 1; i <= more; i++)
            if ((at[i] & 0xc0) != 0x80)
                return 0;
        at += more + 1;
    }
    return 1;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Write the character that four hexadecimal digits name; NULL for half of a pair. */
static char *put_character(char *to, const char *digits)
{
    int code = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(digits[i]);
        if (digit < 0)
            return NULL;
        code = code * 16 + digit;
    }
    if (code >= 0xd800 && code <= 0xdfff)
        return NULL;
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xc0 | (code >> 6));
        *to++ = (char)(0x80 | (code & 0x3f));
    } else {
        *to++ = (char)(0xe0 | (code >> 12));
        *to++ = (char)(0x80 | ((code >> 6) & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    }
    return to;
}

/* Copy a string without its escapes; the reader stands after its opening quote. A character takes no more
   room than its escape. */
static int unescaped(Reader *reader, const char **text, Py_ssize_t *n)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char *out = reader->arena;
    const char *at = reader->at;
    for (; at < reader->end && *at != '"'; at++) {
        if ((unsigned char)*at < 0x20)
            return 0;
        if (*at != '\\') {
            *out++ = *at;
            continue;
        }
        if (++at == reader->end)
            return 0;
        const char *known = *at ? strchr(from, *at) : NULL;
        if (known != NULL) {
            *out++ = to[known - from];
        } else {
            if (*at != 'u' || reader->end - at < 5 || (out = put_character(out, at + 1)) == NULL)
                return 0;
            at += 4;
        }
    }
    if (at == reader->end || !is_utf8((unsigned char *)reader->arena, (unsigned char *)out))
        return 0;
    *text = reader->arena;
    *n = out - reader->arena;
    reader->arena = out;
    reader->at = at + 1;
    return 1;
}

int read_string(Reader *reader, const char **text, Py_ssize_t *n)
{
    if (!read_mark(reader, '"'))
        return 0;
    const char *at = reader->at;
    unsigned char all = 0;
    for (; at < reader->end && *at != '"'; at++) {
        if (*at == '\\')
            return unescaped(reader, text, n);
        if ((unsigned char)*at < 0x20)
            return 0;
        all |= (unsigned char)*at;
    }
    if (at == reader->end || (all >= 0x80 && !is_utf8((const unsigned char *)reader->at, (const unsigned char *)at)))
        return 0;
    *text = reader->at;
    *n = at - reader->at;
    reader->at = at + 1;
    return 1;
}

/* --- numbers --- */

static inline int is_digit(const Reader *reader, const char *at)
{
    return at < reader->end && *at >= '0' && *at <= '9';
}

/* Read a number the slow way, which is Python's own; 0 where it is too large to be one. */
static int read_rounded(const char *begin, Py_ssize_t n, double *x)
{
    char copy[LONGEST_NUMBER + 1];
    if (n > LONGEST_NUMBER)
        return 0;
    memcpy(copy, begin, (size_t)n);
    copy[n] = '\0';
    *x = PyOS_string_to_double(copy, NULL, NULL);
    return !(*x == -1.0 && PyErr_Occurred()) && *x - *x == 0.0;
}

static int read_number(Reader *reader, Value *value)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const char *begin = reader->at, *at = begin + (*begin == '-');
    int n_digits = 0, n_fraction = 0, n_zeros = 0, is_whole = 1, has_exponent = 0;
    uint64_t mantissa = 0;
    if (!is_digit(reader, at) || (*at == '0' && is_digit(reader, at + 1)))
        return 0;
    for (; is_digit(reader, at); at++)
        if (n_digits || *at != '0') {
            n_digits++;
            if (n_digits <= 18)
                mantissa = mantissa * 10 + (uint64_t)(*at - '0');
        }
    if (at < reader->end && *at == '.') {
        is_whole = 0;
        if (!is_digit(reader, ++at))
            return 0;
        for (; is_digit(reader, at); at++) {
            n_fraction++;
            if (n_digits == 0 && *at == '0') {
                n_zeros++;
                continue;
            }
            n_digits++;
            if (n_digits <= 18)
                mantissa = mantissa * 10 + (uint64_t)(*at - '0');
        }
    }
    if (at < reader->end && (*at | 0x20) == 'e') {
        is_whole = 0;
        has_exponent = 1;
        at++;
        at += at < reader->end && (*at == '+' || *at == '-');
        if (!is_digit(reader, at))
            return 0;
        while (is_digit(reader, at))
            at++;
    }
    *value = (Value){.kind = 'n', .text = begin, .n = at - begin};
    reader->at = at;
    if (!has_exponent && n_digits <= 18 && mantissa <= (1ull << 53) && n_fraction <= EXACT_POWER) {
        /* both are exact, so that their quotient is rounded once (Clinger 1990) */
        double x = (double)mantissa / powers[n_fraction];
        value->x = *begin == '-' ? -x : x;
    } else if (!read_rounded(begin, value->n, &value->x)) {
        return 0;
    }
    if (is_whole && n_digits == 0)
        value->x = 0.0; /* -0 is a whole number, and those have one zero only */
    value->is_plain = !has_exponent && n_digits && n_digits <= PLAIN_DIGITS && n_zeros <= 4;
    return 1;
}

static int read_word(Reader *reader, const char *word, size_t n)
{
    if ((size_t)(reader->end - reader->at) < n || memcmp(reader->at, word, n) != 0)
        return 0;
    reader->at += n;
    return 1;
}

int read_scalar(Reader *reader, Value *value)
{
    skip_space(reader);
    if (reader->at == reader->end)
        return 0;
    switch (*reader->at) {
    case '"':
        *value = (Value){.kind = 't'};
        return read_string(reader, &value->text, &value->n);
    case 'n':
        *value = (Value){.kind = '-'};
        return read_word(reader, "null", 4);
    case 't':
        *value = (Value){.kind = 'b', .x = 1.0};
        return read_word(reader, "true", 4);
    case 'f':
        *value = (Value){.kind = 'b', .x = 0.0};
        return read_word(reader, "false", 5);
    default:
        return read_number(reader, value);
    }
}
