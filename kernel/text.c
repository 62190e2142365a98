/* JSON written as msgspec writes it, to the last byte. */
#include "plan.h"

#include <stdio.h>

#include <stdlib.h>

#define FIRST_ROOM 4096
/* the powers of ten that are written out, not as an exponent */
#define LEAST_EXPONENT -5
#define GREATEST_EXPONENT 15

void put(Text *text, const char *bytes, size_t n)
{
    if (text->room - text->n < n) {
        size_t room = text->room ? text->room : FIRST_ROOM;
        while (room - text->n < n)
            room *= 2;
        char *grown = text->failed ? NULL : PyMem_Realloc(text->bytes, room);
        if (grown == NULL) {
            text->failed = 1;
            return;
        }
        text->bytes = grown;
        text->room = room;
    }
    memcpy(text->bytes + text->n, bytes, n);
    text->n += n;
}

void text_freed(Text *text)
{
    PyMem_Free(text->bytes);
    *text = (Text){NULL, 0, 0, 0};
}

void put_quoted(Text *text, const char *bytes, Py_ssize_t n)
{
    static const char hex[] = "0123456789abcdef";
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    Py_ssize_t begin = 0;
    put(text, "\"", 1);
    for (Py_ssize_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        const char *known = c ? strchr(from, c) : NULL;
        put(text, bytes + begin, (size_t)(i - begin));
        if (known != NULL)
            escape[1] = to[known - from];
        put(text, escape, known != NULL ? 2 : 6);
        begin = i + 1;
    }
    put(text, bytes + begin, (size_t)(n - begin));
    put(text, "\"", 1);
}

/* Take the digits of Python's shortest text apart; return the exponent of the first digit. */
static int taken_apart(const char *shortest, char *digits, int *n_digits)
{
    int n = 0, before_point = -1, exponent = 0, leading = 0;
    for (; *shortest != '\0' && *shortest != 'e'; shortest++) {
        if (*shortest == '.')
            before_point = n + leading;
        else if (n == 0 && *shortest == '0')
            leading++; /* zeros in front say where the point is, nothing else */
        else if (n < 40)
            digits[n++] = *shortest;
    }
    if (before_point < 0)
        before_point = n + leading;
    if (*shortest == 'e')
        exponent = atoi(shortest + 1);
    while (n > 1 && digits[n - 1] == '0')
        n--;
    *n_digits = n;
    return before_point - leading - 1 + exponent;
}

void put_number(Text *text, double x)
{
    char digits[48], out[400];
    int n = 0, k = 0;
    char *shortest = PyOS_double_to_string(x, 'r', 0, 0, NULL);
    if (shortest == NULL) {
        PyErr_Clear();
        text->failed = 1;
        return;
    }
    int exponent = taken_apart(shortest + (*shortest == '-'), digits, &n);
    if (*shortest == '-')
        out[k++] = '-';
    PyMem_Free(shortest);
    if (n == 0) { /* a zero has no digits */
        put(text, out, (size_t)k);
        put(text, "0.0", 3);
        return;
    }
    if (exponent < LEAST_EXPONENT || exponent > GREATEST_EXPONENT) {
        out[k++] = digits[0];
        if (n > 1) {
            out[k++] = '.';
            memcpy(out + k, digits + 1, (size_t)n - 1);
            k += n - 1;
        }
        k += snprintf(out + k, 8, "e%d", exponent);
    } else if (exponent < 0) {
        out[k++] = '0';
        out[k++] = '.';
        for (int i = -1; i > exponent; i--)
            out[k++] = '0';
        memcpy(out + k, digits, (size_t)n);
        k += n;
    } else {
        for (int i = 0; i <= exponent; i++)
            out[k++] = i < n ? digits[i] : '0';
        out[k++] = '.';
        if (n > exponent + 1) {
            memcpy(out + k, digits + exponent + 1, (size_t)(n - exponent - 1));
            k += n - exponent - 1;
        } else {
            out[k++] = '0';
        }
    }
    put(text, out, (size_t)k);
}

/* Write a number as its own text has it, which has no needless digit but perhaps zeros at its end. */
static void put_plain(Text *text, const char *literal, Py_ssize_t n)
{
    const char *point = memchr(literal, '.', (size_t)n);
    if (point == NULL) {
        put(text, literal, (size_t)n);
        put(text, ".0", 2);
        return;
    }
    while (literal + n > point + 2 && literal[n - 1] == '0')
        n--;
    put(text, literal, (size_t)n);
}

void put_value(Text *text, const Value *value)
{
    if (value->kind == '-')
        put(text, "null", 4);
    else if (value->kind == 't')
        put_quoted(text, value->text, value->n);
    else if (value->kind == 'b')
        put(text, value->x != 0.0 ? "true" : "false", value->x != 0.0 ? 4 : 5);
    else if (value->is_plain)
        put_plain(text, value->text, value->n);
    else
        put_number(text, value->x);
}
