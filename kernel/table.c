/* Tables of levels: what a dictionary of Python finds, found without Python. */
#include "plan.h"

/* numbers that are equal have one hash, as 0.0 and -0.0; True is 1.0, as in Python */
static uint64_t hashed(const Value *key)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    if (key->kind == 't') {
        for (Py_ssize_t i = 0; i < key->n; i++)
            hash = (hash ^ (unsigned char)key->text[i]) * 1099511628211u;
        return hash ^ (hash >> 29);
    }
    double x = key->x == 0.0 ? 0.0 : key->x;
    memcpy(&hash, &x, sizeof(hash));
    hash *= 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 32);
}

static int is_same(const Value *a, const Value *b)
{
    if ((a->kind == 't') != (b->kind == 't'))
        return 0;
    if (a->kind == 't')
        return a->n == b->n && memcmp(a->text, b->text, (size_t)a->n) == 0;
    return a->x == b->x;
}

int table_made(Table *table, Py_ssize_t n)
{
    size_t size = 8;
    while (size < 2 * (size_t)n)
        size *= 2;
    table->at_missing = -1;
    table->mask = size - 1;
    table->slots = PyMem_Calloc(size, sizeof(Slot));
    if (table->slots == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < size; i++)
        table->slots[i].at = -1;
    return 0;
}

static Slot *slot_of(const Table *table, const Value *key, uint64_t hash)
{
    size_t i = hash & table->mask;
    while (table->slots[i].at >= 0 &&
           (table->slots[i].hash != hash || !is_same(&table->slots[i].key, key)))
        i = (i + 1) & table->mask; /* half of the slots at least are free */
    return &table->slots[i];
}

int table_put(Table *table, const Value *key, Py_ssize_t at)
{
    if (key->kind == '-') {
        table->at_missing = at;
        return 0;
    }
    if (key->kind == 'o') {
        PyErr_SetString(PyExc_ValueError, "a level is neither number nor text");
        return -1;
    }
    uint64_t hash = hashed(key);
    Slot *slot = slot_of(table, key, hash);
    if (slot->at >= 0) {
        PyErr_SetString(PyExc_ValueError, "a level comes twice");
        return -1;
    }
    *slot = (Slot){*key, hash, at};
    return 0;
}

Py_ssize_t table_find(const Table *table, const Value *key)
{
    if (key->kind == '-')
        return table->at_missing;
    return key->kind == 'o' ? -1 : slot_of(table, key, hashed(key))->at;
}

void table_freed(Table *table)
{
    PyMem_Free(table->slots);
    table->slots = NULL;
}
