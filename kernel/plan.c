/* A plan: all that is needed to answer a request, as data. Made when a model is loaded, from its signature,
   its recipe and its predictor (`train/request_plan.py`); `answer` is then one call from the bytes of a request to
   those of its answer.

   Only what is usual is answered here. Whatever is not - an unknown field where that is refused, a number as
   text that no field reads, a nested value, a row that cannot be used - makes the call return None, and
   Python reads the request anew: there is one meaning of everything, and one text of every error. */
#include "plan.h"

static char *copied_text(const char *text, Py_ssize_t n)
{
    char *copy = PyMem_Malloc((size_t)n + 1);
    if (copy == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(copy, text, (size_t)n);
    copy[n] = '\0';
    return copy;
}

static int with_field(Plan *plan, PlanField *field, PyObject *given)
{
    const char *name, *quoted;
    PyObject *check, *read;
    int kind;
    if (!PyArg_ParseTuple(given, "s#y#CpOnO", &name, &field->n_name, &quoted, &field->n_quoted, &kind,
                          &field->nullable, &check, &field->place, &read))
        return -1;
    if (field->place >= plan->n_registers || !PyCallable_Check(check)) {
        PyErr_SetString(PyExc_ValueError, "a field has no register, or no check");
        return -1;
    }
    field->kind = kind < 128 ? (char)kind : 'o';
    field->check = Py_NewRef(check);
    field->read = read == Py_None ? NULL : Py_NewRef(read);
    field->name = copied_text(name, field->n_name);
    field->quoted = copied_text(quoted, field->n_quoted);
    return field->name == NULL || field->quoted == NULL ? -1 : 0;
}

static int with_fields(Plan *plan, PyObject *list, PyObject *target)
{
    Py_ssize_t n = PyList_Size(list), n_target;
    if (n < 1) {
        PyErr_SetString(PyExc_ValueError, "there are no fields");
        return -1;
    }
    plan->fields = PyMem_Calloc((size_t)n, sizeof(PlanField));
    plan->row = PyMem_Calloc((size_t)n, sizeof(Value));
    plan->is_given = PyMem_Calloc((size_t)n, 1);
    if (plan->fields == NULL || plan->row == NULL || plan->is_given == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (table_made(&plan->names, n + 1) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < n; i++) {
        PlanField *field = &plan->fields[i];
        plan->n_fields = i + 1;
        if (with_field(plan, field, PyList_GetItem(list, i)) < 0)
            return -1;
        Value name = {.kind = 't', .text = field->name, .n = field->n_name};
        if (table_put(&plan->names, &name, i) < 0)
            return -1;
    }
    Value name;
    if (target == Py_None)
        return 0;
    if (PyList_Append(plan->owned, target) < 0)
        return -1;
    name = (Value){.kind = 't', .text = PyUnicode_AsUTF8AndSize(target, &n_target)};
    name.n = n_target;
    return name.text == NULL ? -1 : table_put(&plan->names, &name, n);
}

static int with_features(Plan *plan, PyObject *list)
{
    Py_ssize_t n = PyList_Size(list);
    plan->registers = PyMem_Calloc((size_t)plan->n_registers, sizeof(Value));
    plan->is_changed = PyMem_Calloc((size_t)plan->n_registers, 1);
    plan->features = PyMem_Calloc((size_t)n + 1, sizeof(Py_ssize_t));
    if (plan->registers == NULL || plan->is_changed == NULL || plan->features == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_ssize_t place = PyNumber_AsSsize_t(PyList_GetItem(list, i), PyExc_OverflowError);
        if (place < 0 || place >= plan->n_registers) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "a feature's place is no register");
            return -1;
        }
        plan->features[i] = place;
    }
    plan->n_features = n;
    return 0;
}

/* Refuse what does not go together, whoever calls. */
static int fits(const Plan *plan)
{
    Py_ssize_t n_classes = PyTuple_Size(plan->classes), n_features = 0, n_outputs = 0;
    int is_known = (plan->task == 'r' && plan->n_outputs == 1) ||
                   (plan->task == 'b' && plan->n_outputs == 1 && n_classes == 2) ||
                   (plan->task == 'm' && plan->n_outputs > 1 && plan->n_outputs == n_classes);
    for (Py_ssize_t i = 0; i < n_classes; i++)
        is_known = is_known && PyBytes_Check(PyTuple_GetItem(plan->classes, i));
    if (plan->link == '\0' || strchr("iesx", plan->link) == NULL)
        is_known = 0;
    if (plan->scorer != Py_None)
        is_known = is_known &&
                   (trees_of(plan->scorer, &n_features, &n_outputs) ||
                    linear_of(plan->scorer, &n_features, &n_outputs)) &&
                   n_features == plan->n_features && n_outputs == plan->n_outputs;
    else
        is_known = is_known && PyCallable_Check(plan->numbers);
    if (!is_known || plan->n_features < 1)
        PyErr_SetString(PyExc_ValueError, "the parts of the plan do not go together");
    return is_known && plan->n_features >= 1;
}

static PyObject *plan_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fields", "instructions", "features", "n_registers", "refuses_unknown", "target", "scorer",
                            "numbers", "link", "task", "n_outputs", "threshold", "classes", "after", "version",
                            "tail", "encode", NULL};
    PyObject *fields, *orders, *features, *target, *scorer, *numbers, *classes, *after, *version, *tail, *encode;
    Py_ssize_t n_registers, n_outputs;
    int refuses_unknown, link, task;
    double threshold;
    PyTypeObject *list = &PyList_Type;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!O!npOOOCCndO!SSSO", names, list, &fields, list, &orders, list,
                                     &features, &n_registers, &refuses_unknown, &target, &scorer, &numbers, &link,
                                     &task, &n_outputs, &threshold, &PyTuple_Type, &classes, &after, &version,
                                     &tail, &encode))
        return NULL;
    if (n_registers < 1) {
        PyErr_SetString(PyExc_ValueError, "there are no registers");
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Plan *plan = (Plan *)alloc(type, 0);
    if (plan == NULL)
        return NULL;
    plan->n_registers = n_registers;
    plan->n_outputs = n_outputs;
    plan->refuses_unknown = refuses_unknown;
    plan->threshold = threshold;
    plan->link = link < 128 ? (char)link : '\0';
    plan->task = task < 128 ? (char)task : '\0';
    plan->scorer = Py_NewRef(scorer);
    plan->numbers = Py_NewRef(numbers);
    plan->classes = Py_NewRef(classes);
    plan->after = Py_NewRef(after);
    plan->version = Py_NewRef(version);
    plan->tail = Py_NewRef(tail);
    plan->encode = Py_NewRef(encode);
    plan->owned = PyList_New(0);
    if (plan->owned == NULL || with_fields(plan, fields, target) < 0 || with_orders(plan, orders) < 0 ||
        with_features(plan, features) < 0 || !fits(plan)) {
        Py_DECREF(plan);
        return NULL;
    }
    return (PyObject *)plan;
}

static int plan_traverse(PyObject *self, visitproc visit, void *arg)
{
    Plan *plan = (Plan *)self;
    Py_VISIT(Py_TYPE(self));
    for (Py_ssize_t i = 0; i < plan->n_fields; i++) {
        Py_VISIT(plan->fields[i].check);
        Py_VISIT(plan->fields[i].read);
    }
    for (Py_ssize_t i = 0; i < plan->n_orders; i++)
        Py_VISIT(plan->orders[i].operation);
    Py_VISIT(plan->owned);
    Py_VISIT(plan->scorer);
    Py_VISIT(plan->numbers);
    Py_VISIT(plan->classes);
    Py_VISIT(plan->encode);
    return 0;
}

/* Nothing can ask what is being taken apart: the collector found that nobody has it. */
static int plan_clear(PyObject *self)
{
    Plan *plan = (Plan *)self;
    plan->is_busy = 1;
    for (Py_ssize_t i = 0; i < plan->n_fields; i++) {
        Py_CLEAR(plan->fields[i].check);
        Py_CLEAR(plan->fields[i].read);
    }
    for (Py_ssize_t i = 0; i < plan->n_orders; i++)
        Py_CLEAR(plan->orders[i].operation);
    Py_CLEAR(plan->owned);
    Py_CLEAR(plan->scorer);
    Py_CLEAR(plan->numbers);
    Py_CLEAR(plan->classes);
    Py_CLEAR(plan->after);
    Py_CLEAR(plan->version);
    Py_CLEAR(plan->tail);
    Py_CLEAR(plan->encode);
    return 0;
}

static void plan_dealloc(PyObject *self)
{
    Plan *plan = (Plan *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    plan_clear(self);
    for (Py_ssize_t i = 0; i < plan->n_fields; i++) {
        PyMem_Free(plan->fields[i].name);
        PyMem_Free(plan->fields[i].quoted);
    }
    for (Py_ssize_t i = 0; i < plan->n_orders; i++)
        order_freed(&plan->orders[i]);
    table_freed(&plan->names);
    PyMem_Free(plan->fields);
    PyMem_Free(plan->orders);
    PyMem_Free(plan->features);
    PyMem_Free(plan->row);
    PyMem_Free(plan->registers);
    PyMem_Free(plan->is_given);
    PyMem_Free(plan->is_changed);
    freefunc free_ = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"answer", plan_answer, METH_VARARGS,
     "answer(body, inference_id, at, today): return the answer, the lines to capture (None where `at` is None) "
     "and the number of rows; or None where Python has to read the request, or to refuse it."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "All that is needed to answer a request, as data; see train/request_plan.py."},
    {Py_tp_new, plan_new},
    {Py_tp_dealloc, plan_dealloc},
    {Py_tp_traverse, plan_traverse},
    {Py_tp_clear, plan_clear},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec plan_spec = {"loopwright.core._kernel.Plan", sizeof(Plan), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
                         slots};
