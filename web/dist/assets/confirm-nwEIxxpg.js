import{D as u,A as d,b as t}from"./icons-I7-K48Xo.js";function c({title:n,text:o,yes:a,no:r="Cancel",danger:s=!1}){const e=document.createElement("dialog");return e.setAttribute("aria-labelledby","question"),u(t`<form method="dialog">
      <h2 id="question">${n}</h2>
      ${o?t`<p>${o}</p>`:d}
      <div class="actions">
        <button value="no" autofocus>${r}</button>
        <button value="yes" class="primary ${s?"danger":""}">${a}</button>
      </div>
    </form>`,e),document.body.append(e),e.showModal(),new Promise(i=>{e.addEventListener("close",()=>{e.remove(),i(e.returnValue==="yes")})})}export{c};
